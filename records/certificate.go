package records

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Certificate is one that was signed for a host of a closed cluster.
type Certificate struct {
	Serial  string    `json:"serial"`
	Expires time.Time `json:"expires"`
}

// Revoked is a revoked certificate. Its record stays until the certificate has expired by
// any host's clock (clockDoubt).
type Revoked struct {
	Host    string    `json:"host"`
	Expires time.Time `json:"expires"`
}

// ErrRevoked says that a certificate was revoked.
var ErrRevoked = errors.New("this host was removed from the cluster and its certificate revoked: it can join again with a token")

// NoteCertificate keeps that host has a certificate, so that it can be revoked.
// It fails with [ErrRevoked] where that one is revoked, or the one that it was
// renewed for (empty for a host that joins).
func (r Records) NoteCertificate(ctx context.Context, host string, certificate Certificate, renews string) error {
	key := CertificatesKey(host)
	return kvstore.Retry(ctx, "note the certificate of host "+host, func() error {
		item, kept, err := r.certificates(ctx, host)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(kept, func(c Certificate) bool { return c.Serial == certificate.Serial }) {
			return nil
		}
		kept = slices.DeleteFunc(kept, func(c Certificate) bool { return r.now().After(c.Expires.Add(clockDoubt)) })
		txn := kvstore.Txn{
			If:   []kvstore.Guard{unchanged(key, item)},
			Then: []kvstore.Op{kvstore.Put(key, append(kept, certificate))},
		}
		for _, serial := range []string{certificate.Serial, renews} {
			if serial == "" {
				continue
			}
			if _, err := r.Store.Get(ctx, RevokedKey(serial)); err == nil {
				return ErrRevoked
			} else if !errors.Is(err, kvstore.ErrNotFound) {
				return err
			}
			txn.If = append(txn.If, kvstore.Missing(RevokedKey(serial)))
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
}

// unchanged guards a record that may be missing.
func unchanged(key string, item kvstore.Item) kvstore.Guard {
	if item.Key == "" {
		return kvstore.Missing(key)
	}
	return kvstore.Unchanged(item)
}

func (r Records) certificates(ctx context.Context, host string) (kvstore.Item, []Certificate, error) {
	item, err := r.Store.Get(ctx, CertificatesKey(host))
	if errors.Is(err, kvstore.ErrNotFound) {
		return kvstore.Item{}, nil, nil
	}
	if err != nil {
		return item, nil, err
	}
	kept, err := kvstore.Decode[[]Certificate](item)
	return item, kept, err
}

// RevokeHost revokes all certificates of a host, and deletes the records of those
// revoked ones that have expired beyond doubt. What seems to have expired is revoked as well:
// this host's clock may be ahead of those that still take it.
func (r Records) RevokeHost(ctx context.Context, host string) error {
	key := CertificatesKey(host)
	return kvstore.Retry(ctx, "revoke the certificates of host "+host, func() error {
		item, kept, err := r.certificates(ctx, host)
		if err != nil || item.Key == "" {
			return err
		}
		txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Unchanged(item)}, Then: []kvstore.Op{kvstore.Delete(key)}}
		for _, certificate := range kept {
			txn.Then = append(txn.Then, kvstore.Put(RevokedKey(certificate.Serial), Revoked{Host: host, Expires: certificate.Expires}))
		}
		snapshot, err := r.Store.List(ctx, RevokedPrefix)
		if err != nil {
			return err
		}
		revoked, _ := kvstore.DecodeAll[Revoked](snapshot, RevokedPrefix)
		for serial, old := range revoked {
			if r.now().After(old.Expires.Add(clockDoubt)) && len(txn.Then) < mostPruned {
				txn.Then = append(txn.Then, kvstore.Delete(RevokedKey(serial)))
			}
		}
		_, err = r.Store.Commit(ctx, txn)
		return err
	})
}

// CheckName refuses the name of a host that joins where a host that lives has it
// with another VTEP.
func (r Records) CheckName(ctx context.Context, host fabric.Host) error {
	item, err := r.Store.Get(ctx, HostKey(host.Name))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	other, err := kvstore.Decode[fabric.Host](item)
	if err != nil || other.VTEP == host.VTEP {
		return nil
	}
	switch _, err := r.Store.Get(ctx, AliveKey(host.Name)); {
	case err == nil:
		return refused("host name %s is in use by the host with VTEP %s: give --host-name", other.Shown(), other.VTEP)
	case errors.Is(err, kvstore.ErrNotFound):
		return nil
	default:
		return fmt.Errorf("look up host %s: %w", host.Name, err)
	}
}
