// Package hosttest runs a host of a cluster for tests, below Docker's protocol: its
// membership, its loop and its collector, on data planes that record their calls.
package hosttest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/membership"
	"github.com/causeway-net/causeway/reconcile"
	"github.com/causeway-net/causeway/reconcile/collect"
	"github.com/causeway-net/causeway/records"
)

// Host is one running host.
type Host struct {
	fabric.Host
	// Plane is that of mode=vxlan, Physical that of mode=underlay.
	Plane, Physical *Plane
	Board           *health.Board
	Member          *membership.Member
	Loop            *reconcile.Loop
	Collector       *collect.Collector
	Records         records.Records
	// Log is what was logged; it may be read after Stop.
	Log   *bytes.Buffer
	Entry *logrus.Entry
	Stop  func()
}

// Options may be changed before a host starts.
type Options struct {
	Host   fabric.Host
	Expiry time.Duration
	Timing reconcile.Timing
	Grace  time.Duration // of the Collector
	Plane  *Plane        // that of mode=vxlan, as another Host left it; nil: a new one
}

// Grace is the grace time of a Host that is Collecting; others judge nothing.
const Grace = 60 * time.Millisecond

// Collecting has a host collect what is dead.
func Collecting(o *Options) { o.Grace = Grace }

// Start runs host number n (named h1 for 1, with VTEP 10.99.0.1) until the test ends
// or Stop is called.
func Start(t testing.TB, store kvstore.Store, n int, change ...func(*Options)) *Host {
	t.Helper()
	o := Options{
		Host:   fabric.Host{Name: fmt.Sprint("h", n), VTEP: netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}), MTU: 1500},
		Timing: reconcile.Timing{Resync: time.Hour, Retry: 10 * time.Millisecond},
		Grace:  time.Hour,
	}
	for _, change := range change {
		change(&o)
	}
	h := &Host{Host: o.Host, Plane: cmp.Or(o.Plane, NewPlane()), Physical: NewPlane(), Log: &bytes.Buffer{}}
	logger := logrus.New()
	logger.SetOutput(io.MultiWriter(t.Output(), h.Log))
	h.Entry = logrus.NewEntry(logger)
	h.Board = health.New(h.Entry)
	h.Records = records.Records{Store: store, Host: h.Name}
	h.Member = membership.New(membership.Config{
		Host: h.Host, Store: store, Expiry: o.Expiry, Board: h.Board, Log: h.Entry,
		Timing: membership.Timing{Retry: 10 * time.Millisecond, Lease: time.Second},
	})
	h.Loop = reconcile.New(reconcile.Config{
		Host: h.Host, Store: store, Membership: h.Member, Board: h.Board, Log: h.Entry, Timing: o.Timing,
		Planes: map[fabric.Mode]fabric.Dataplane{fabric.ModeVXLAN: h.Plane, fabric.ModeUnderlay: h.Physical},
	})
	h.Collector = collect.New(collect.Config{
		Records: h.Records, Loop: h.Loop, Refusal: h.Member.Refusal, Board: h.Board, Log: h.Entry, Every: Grace / 3, Grace: o.Grace,
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 3)
	go func() { done <- h.Member.Run(ctx) }()
	go func() { done <- h.Loop.Run(ctx) }()
	go func() { done <- h.Collector.Run(ctx) }()
	h.Stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-done, <-done, <-done); err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
	})
	t.Cleanup(h.Stop)
	return h
}

// Fault is the text of a fault on the host's Board, empty when there is none.
func (h *Host) Fault(part health.Part, object string) string {
	for _, fault := range h.Board.Faults() {
		if fault.Part == part && fault.Object == object {
			return fault.Text
		}
	}
	return ""
}

// Eventually waits until ok holds.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}
