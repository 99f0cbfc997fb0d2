package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

const (
	// rotateRetry is the pause between looks at a rotation that is under way.
	rotateRetry = time.Second
	// rotateSlow is how long a step may take until what it waits for is a fault.
	rotateSlow = 15 * time.Second
)

// The authority is replaced in steps that are in the records, and every host does
// each of them and records that: a host that was killed continues where it was. The host
// whose member leads the store begins the next step when all have done one. At each
// moment every host trusts the authorities that signed the other hosts' certificates.

// Rotate begins the replacement of the authority; the hosts do the rest by themselves.
func (c *Cluster) Rotate(ctx context.Context, etcd *kvstore.Etcd) error {
	current, err := c.Dir.Authority()
	if trust.IsNotThere(err) || c.Member() == nil {
		return errors.New("this host does not hold the store, and has no authority to replace: run it on one that does, \"causeway hosts\" says which")
	}
	if err != nil {
		return err
	}
	next, err := trust.NewAuthority("causeway", c.Now())
	if err != nil {
		return err
	}
	if err := c.Dir.SaveNext(next); err != nil {
		return err
	}
	believed, err := c.Dir.CA()
	if err != nil {
		return err
	}
	rotation := records.Rotation{
		ID: trust.PinOf(next.Certificate), Step: records.StepBelieve, New: next.CertificatePEM(),
		// The one that signs is the first; what an earlier rotation has left stays trusted.
		Authorities: slices.Concat(current.CertificatePEM(), believed, next.CertificatePEM()),
		By:          c.Host, At: c.joinAddr().String(),
	}
	return records.Records{Store: etcd, Host: c.Host}.StartRotation(ctx, rotation)
}

// rotate does this host's part of each step, and begins the next one where this
// host's member leads.
func (c *Cluster) rotate(ctx context.Context, etcd *kvstore.Etcd) error {
	var current atomic.Pointer[records.Rotation]
	wake := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return records.WatchRotation(ctx, etcd, func(r records.Rotation) {
			current.Store(&r)
			select {
			case wake <- struct{}{}:
			default:
			}
		})
	})
	group.Go(func() error {
		var taken string // the step that this host has done and noted
		var step string
		var begun time.Time
		for {
			var again <-chan time.Time
			if r := current.Load(); r != nil && (r.Step != records.StepDone || taken != r.ID+string(r.Step)) {
				if step != r.ID+string(r.Step) {
					step, begun = r.ID+string(r.Step), time.Now()
				}
				again = time.After(rotateRetry)
				err := c.turn(ctx, etcd, *r, &taken)
				if ctx.Err() == nil && (err == nil || time.Since(begun) > rotateSlow) {
					c.Board.Report(health.Scope{Part: health.Certificate, Object: "rotation"}, err)
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-wake:
			case <-again:
			}
		}
	})
	if err := group.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// turn does a step unless that was done, and then looks whether all have. The
// error says what is waited for.
func (c *Cluster) turn(ctx context.Context, etcd *kvstore.Etcd, r records.Rotation, taken *string) error {
	here := records.Records{Store: etcd, Host: c.Host, Now: c.Now}
	if *taken != r.ID+string(r.Step) {
		if err := c.take(ctx, etcd, here, r); err != nil {
			return fmt.Errorf("the authority is being replaced, and this host could not yet %s: %w", r.Step, err)
		}
		if r.Step != records.StepDone {
			if err := here.StepTaken(ctx, r); err != nil {
				return err
			}
		}
		*taken = r.ID + string(r.Step)
	}
	if _, leads := c.Running(); !leads || r.Step == records.StepDone {
		return nil
	}
	waits, err := here.StepWaits(ctx, r)
	if err != nil {
		return err
	}
	if len(waits) > 0 {
		return fmt.Errorf("the authority is being replaced (%s), and waits for %s: start causeway there, or release what is gone with \"causeway hosts rm\"",
			r.Step, strings.Join(waits, ", "))
	}
	next := r
	switch r.Step {
	case records.StepBelieve:
		next.Step, next.Authorities = records.StepSign, slices.Concat(r.New, r.Authorities)
	case records.StepSign:
		next.Step, next.Authorities = records.StepForget, r.New
	default:
		next.Step = records.StepDone
	}
	c.Log.WithField("step", next.Step).Info("the authority is being replaced: all hosts have done a step")
	return here.NextStep(ctx, r, next)
}

// take does this host's part of a step.
func (c *Cluster) take(ctx context.Context, etcd *kvstore.Etcd, here records.Records, r records.Rotation) error {
	if err := c.signedBy(r.Authorities); err != nil {
		if r.Step == records.StepDone {
			return nil // the record is of a backup from before another rotation
		}
		return err
	}
	believed, err := c.Dir.CA()
	if err != nil {
		return err
	}
	if !bytes.Equal(believed, r.Authorities) {
		if err := c.Dir.SaveCA(r.Authorities); err != nil {
			return err
		}
	}
	switch r.Step {
	case records.StepBelieve:
		return c.reload(ctx, etcd, here, r)
	case records.StepSign:
		if err := c.takeKey(ctx, etcd, here, r); err != nil {
			return err
		}
		if err := c.renew(ctx, here); err != nil {
			return err
		}
		return c.signedBy(r.New)
	case records.StepForget:
		if err := c.reload(ctx, etcd, here, r); err != nil {
			return err
		}
	}
	return c.Dir.DropNext()
}

// takeKey replaces the authority's key where this host holds the store; where it
// does not, those that do have to have done so.
func (c *Cluster) takeKey(ctx context.Context, etcd *kvstore.Etcd, here records.Records, r records.Rotation) error {
	if c.Member() == nil {
		return c.afterMembers(ctx, etcd, here, r)
	}
	if authority, err := c.Dir.Authority(); err == nil && trust.PinOf(authority.Certificate) == r.ID {
		return nil
	}
	if next, err := c.Dir.Next(r.ID); err == nil {
		return c.Dir.SaveAuthority(next)
	}
	at, err := netip.ParseAddrPort(r.At)
	if err != nil {
		return err
	}
	if err := c.client().TakeAuthority(ctx, []netip.AddrPort{at}); err != nil {
		return err
	}
	authority, err := c.Dir.Authority()
	if err == nil && trust.PinOf(authority.Certificate) != r.ID {
		err = fmt.Errorf("host %s has not got the new authority's key yet", r.By)
	}
	return err
}

// signedBy checks that this host's certificate is of one of the authorities.
func (c *Cluster) signedBy(bundle []byte) error {
	authorities, err := trust.ParseCertificates(bundle)
	if err != nil {
		return err
	}
	own, err := c.Dir.Certificate()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return own.CheckSignatureFrom(a) == nil }) {
		return errors.New("this host's certificate is of another authority")
	}
	return nil
}

// reload starts this host's member again, since etcd reads the authorities at its
// start alone. The members do so in the order of their names, one at a time.
func (c *Cluster) reload(ctx context.Context, etcd *kvstore.Etcd, here records.Records, r records.Rotation) error {
	running, _ := c.runs()
	if running == nil || c.Member() != nil && running.authorities == sum(r.Authorities) {
		return etcd.Health(ctx)
	}
	if err := c.afterMembers(ctx, etcd, here, r); err != nil {
		return err
	}
	if err := c.yield(ctx, etcd); err != nil {
		return err
	}
	if err := c.stopMember(); err != nil {
		return err
	}
	started := c.launch(nil)
	select {
	case <-started.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if started.err != nil {
		return started.err
	}
	return etcd.Health(ctx)
}

// afterMembers fails until the hosts that hold the store, up to this one where it
// does too, have done the step.
func (c *Cluster) afterMembers(ctx context.Context, etcd *kvstore.Etcd, here records.Records, r records.Rotation) error {
	waits, err := here.StepWaits(ctx, r)
	if err != nil {
		return err
	}
	members, err := etcd.Members(ctx)
	if err != nil {
		return err
	}
	own, _ := c.Running()
	for _, m := range members { // by name
		if m.ID == own {
			break
		}
		if slices.Contains(waits, m.Name) {
			return fmt.Errorf("it is the turn of host %s", m.Name)
		}
	}
	return nil
}

// yield has another member lead if this host's does: what was asked of a leader that
// stops waits seconds for an answer. The last by name leads then, which is the last to
// stop, and hands on to the one before it.
func (c *Cluster) yield(ctx context.Context, etcd *kvstore.Etcd) error {
	const takes = 5 * time.Second
	own := c.Member()
	if own == nil || !own.Leads() {
		return nil
	}
	members, err := etcd.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(members) { // by name
		if m.ID != own.ID() && !m.Learner && m.Name != "" {
			bounded, cancel := context.WithTimeout(ctx, takes)
			defer cancel()
			return own.Yield(bounded, m.ID)
		}
	}
	return nil // it is alone
}

func sum(bundle []byte) [sha256.Size]byte { return sha256.Sum256(bundle) }
