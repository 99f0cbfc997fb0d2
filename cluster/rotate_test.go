package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/quorum"
	"github.com/causeway-net/causeway/records"
)

// announced puts the host's records there, as membership does, and lets it hold the
// store, until the test ends.
func (h *host) announced() {
	h.t.Helper()
	h.put(records.HostKey(h.config.Host), fabric.Host{
		Name: h.config.Host, VTEP: h.config.Address, StoreWish: string(quorum.Auto), StorePeer: h.Peer(),
	})
	h.put(records.AliveKey(h.config.Host), records.Alive{})
}

// writeAllTheTime fails where a write waits as long as etcd waits for one that was lost
// with a leader, or gives another error.
func writeAllTheTime(ctx context.Context, h *host) error {
	const longest = 6 * time.Second
	key := "names/" + h.config.Host
	last, gap := time.Now(), time.Duration(0)
	for n := 0; ctx.Err() == nil; n++ {
		err := kvstore.Retry(ctx, key, func() error {
			item, err := h.etcd.Get(ctx, key)
			guard := kvstore.Unchanged(item)
			if errors.Is(err, kvstore.ErrNotFound) {
				guard, err = kvstore.Missing(key), nil
			}
			if err == nil {
				_, err = h.etcd.Commit(ctx, kvstore.Txn{If: []kvstore.Guard{guard}, Then: []kvstore.Op{kvstore.Put(key, n)}})
			}
			return err
		})
		gap = max(gap, time.Since(last))
		switch {
		case ctx.Err() != nil:
		case err == nil:
			last = time.Now()
		case !errors.Is(err, kvstore.ErrUnavailable):
			return fmt.Errorf("%s: %w", h.config.Host, err)
		}
		if gap > longest {
			return fmt.Errorf("%s wrote nothing for %v: %w", h.config.Host, gap, err)
		}
	}
	h.t.Logf("%s waited %v at most", h.config.Host, gap.Round(time.Millisecond))
	return nil
}

// The authority is replaced while hosts read and write, and one is killed on the way.
func TestRotate(t *testing.T) {
	hosts := []*host{newHost(t, "h1"), newHost(t, "h2"), newHost(t, "h3"), newHost(t, "h4")}
	for i, h := range hosts {
		token := ""
		if i > 0 {
			token = hosts[0].token(time.Hour)
		}
		h.start(token)
		h.announced()
	}
	h1, h4 := hosts[0], hosts[3]
	for _, h := range hosts[1:3] { // h4 does not hold the store
		eventually(t, h.config.Host+" holds the store", func() error {
			others, err := h1.etcd.AddLearner(t.Context(), h.Peer())
			if err == nil {
				err = h.Start(t.Context(), others)
			}
			return err
		})
		eventually(t, "it has a vote", func() error { return h1.etcd.Promote(t.Context(), h.Member().ID()) })
	}
	urls, err := voters(t.Context(), h1.etcd)
	must(t, err)
	for _, h := range hosts {
		must(t, h.Keep(urls))
		h.etcd.SetEndpoints(urls)
	}
	before, err := h4.Dir.CA()
	must(t, err)

	if err := h4.Rotate(t.Context(), h4.etcd); err == nil {
		t.Error("a host without the authority replaces it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy, ctx := errgroup.WithContext(ctx)
	for _, h := range hosts[1:] {
		busy.Go(func() error { return writeAllTheTime(ctx, h) })
	}
	must(t, h1.Rotate(t.Context(), h1.etcd))
	if err := h1.Rotate(t.Context(), h1.etcd); err == nil {
		t.Error("two rotations at once")
	}
	h1.stop() // it has the new key
	h1.start("")
	patience := time.Now().Add(time.Minute)
	eventually := func(what string, check func() error) {
		t.Helper()
		for err := check(); err != nil; err = check() {
			if time.Now().After(patience) {
				t.Fatalf("never came: %s: %v", what, err)
			}
			<-time.After(100 * time.Millisecond)
		}
	}
	eventually("the authority is replaced", func() error {
		r, err := records.ReadRotation(t.Context(), h4.etcd)
		if err == nil && r.Step != records.StepDone {
			waits, _ := records.Records{Store: h4.etcd}.StepWaits(t.Context(), r)
			err = fmt.Errorf("%s, waits for %v", r.Step, waits)
		}
		return err
	})
	cancel()
	must(t, busy.Wait())
	after, err := h4.Dir.CA()
	must(t, err)
	if bytes.Equal(before, after) {
		t.Error("the authority is the old one")
	}
	for _, h := range hosts {
		bundle, err := h.Dir.CA()
		must(t, errors.Join(err, h.signedBy(after), h.etcd.Health(t.Context())))
		if !bytes.Equal(bundle, after) {
			t.Errorf("%s believes others", h.config.Host)
		}
		if r, _ := h.runs(); r != nil && r.authorities != sum(after) {
			t.Errorf("the member of %s believes others", h.config.Host)
		}
	}
	h5 := newHost(t, "h5")
	h5.start(hosts[1].token(time.Hour))
	must(t, h5.etcd.Health(t.Context()))
}
