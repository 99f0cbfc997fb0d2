package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

const (
	// moveRetry is the pause after the store could not be told of an address.
	moveRetry = 2 * time.Second
	// renewEvery is how often it is checked whether the certificate is due.
	renewEvery = time.Hour
	// renewRetry is the pause after a renewal that failed.
	renewRetry = 10 * time.Second
	// lookEvery is how often it is looked whether the certificate has expired all the same:
	// a host that sleeps does not notice the time.
	lookEvery = 10 * time.Second
	// expiresSoon is when a certificate that cannot be renewed is a fault: it should
	// have been for ten days by then.
	expiresSoon = trust.HostLife / 3
)

// Run keeps this host in the cluster until ctx ends: certificate, members and
// revoked certificates as they are. It ends with an error when the member of the
// store that runs here has ended by itself.
func (c *Cluster) Run(ctx context.Context, etcd *kvstore.Etcd) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.watchMember(ctx) })
	group.Go(func() error { return c.admit(ctx, etcd) })
	group.Go(func() error { return c.followRevoked(ctx, etcd) })
	group.Go(func() error { return c.rotate(ctx, etcd) })
	group.Go(func() error {
		for wait := time.Duration(0); c.untilDue(ctx, wait); wait = c.keepCertificate(ctx, etcd) {
		}
		return nil
	})
	group.Go(func() error {
		for c.State().Member && c.tellAddress(ctx, etcd) != nil {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(moveRetry):
			}
		}
		return nil
	})
	return group.Wait()
}

// watchMember ends with the member's failure.
func (c *Cluster) watchMember(ctx context.Context) error {
	var finished *running // whose start is over
	for {
		r, changed := c.runs()
		var started, failed <-chan struct{}
		if r != nil && r != finished {
			started = r.done
		} else if m := c.Member(); m != nil {
			failed = m.Failed()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-started:
			if r.err != nil && !c.othersHold() {
				return r.err
			}
			c.Board.Report(health.Scope{Part: health.Store, Object: "member"}, r.err)
			finished = r
		case <-failed:
			return r.member.Failure()
		}
	}
}

// tellAddress tells the store's other members where this host's is, where its
// address has changed.
func (c *Cluster) tellAddress(ctx context.Context, etcd *kvstore.Etcd) error {
	members, err := etcd.Members(ctx)
	if err != nil {
		return err
	}
	own, _ := c.Running()
	for _, m := range members {
		if m.ID == own && m.Peer != c.Peer() {
			return etcd.MoveMember(ctx, m.ID, c.Peer())
		}
	}
	return nil
}

// followRevoked keeps the list of revoked certificates, and cuts their hosts off.
func (c *Cluster) followRevoked(ctx context.Context, etcd *kvstore.Etcd) error {
	scope := health.Scope{Part: health.Certificate, Object: "revoked"}
	table := map[string]records.Revoked{}
	err := kvstore.Watch(ctx, etcd, records.RevokedPrefix, func(change kvstore.Change[records.Revoked]) {
		change.Merge(table)
		serials := slices.Sorted(maps.Keys(table))
		err := c.Dir.Revoke(serials, c.Now())
		if err != nil {
			err = fmt.Errorf("the list of revoked certificates cannot be written: %w", err)
		}
		c.Board.Report(scope, err)
		if member := c.Member(); member != nil {
			member.Revoke(serials)
		}
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// untilDue waits, no longer than until nobody takes the certificate, and says whether ctx
// goes on. What was tried with such a one waits for wait, as ever.
func (c *Cluster) untilDue(ctx context.Context, wait time.Duration) bool {
	had := c.untimely()
	for end := time.Now().Add(wait); ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(lookEvery, time.Until(end))):
		}
		if !time.Now().Before(end) || !had && c.untimely() {
			return true
		}
	}
}

// untimely says whether the store does not take this host's certificate: it has expired, or
// begins later, as one that was signed while a clock was ahead.
func (c *Cluster) untimely() bool {
	certificate, err := c.Dir.Certificate()
	return err == nil && !trust.InForce(certificate, c.Now())
}

// keepCertificate notes this host's certificate in the records and renews it when
// it is due. It returns how long to wait until the next time.
func (c *Cluster) keepCertificate(ctx context.Context, etcd *kvstore.Etcd) time.Duration {
	err := c.renew(ctx, records.Records{Store: etcd, Host: c.Host, Now: c.Now})
	certificate, unread := c.Dir.Certificate() // which may be new though the store does not know it yet
	err = cmp.Or(err, unread)
	scope := health.Scope{Part: health.Certificate}
	switch {
	case ctx.Err() != nil:
	case err == nil:
		c.Board.Report(scope, nil)
		return renewEvery
	case errors.Is(err, records.ErrRevoked):
		c.Board.Report(scope, err)
	case certificate != nil && c.Now().Before(certificate.NotBefore):
		c.Board.Report(scope, fmt.Errorf("this host's certificate is valid from %s on only, and cannot be renewed: this host's clock is behind, or was ahead: set it: %w",
			certificate.NotBefore.UTC().Format(time.DateTime), err))
	case c.untimely():
		c.Board.Report(scope, fmt.Errorf("this host's certificate expired at %s, and the store takes it no more: start causeway with --join and what \"causeway token\" prints on another host: %w",
			certificate.NotAfter.UTC().Format(time.DateTime), err))
	case certificate == nil || certificate.NotAfter.Sub(c.Now()) < expiresSoon:
		expires := "at an unknown time"
		if certificate != nil {
			expires = certificate.NotAfter.UTC().Format(time.DateTime)
		}
		c.Board.Report(scope, fmt.Errorf("this host's certificate expires at %s, when the store will take it no more, and cannot be renewed: %w", expires, err))
	default:
		c.Log.WithError(err).Debug("this host's certificate is not renewed or noted yet")
	}
	return renewRetry
}

// renew replaces the certificate where it is due. Who has the authority's key
// signs it itself. An untimely one is not noted before: the store would not hear of it.
func (c *Cluster) renew(ctx context.Context, r records.Records) error {
	shown, err := c.Dir.Certificate()
	if err != nil {
		return err
	}
	if !c.untimely() {
		if err := r.NoteCertificate(ctx, c.Host, recordOf(shown), ""); err != nil {
			return err
		}
	}
	stale, err := c.stale()
	if err != nil || !stale {
		return err
	}
	authority, err := c.Dir.Authority()
	switch {
	case trust.IsNotThere(err):
		_, err = c.client().Renew(ctx, JoinAddrs(c.State().Members))
	case err == nil:
		err = c.sign(authority)
	}
	if err != nil {
		return err
	}
	renewed, err := c.Dir.Certificate()
	if err != nil {
		return err
	}
	c.Log.WithField("until", renewed.NotAfter.UTC().Format(time.DateTime)).Info("this host's certificate is renewed")
	return r.NoteCertificate(ctx, c.Host, recordOf(renewed), shown.SerialNumber.String())
}
