package scale

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
)

// phased is what a phase has used.
type phased struct {
	counters
	own, seconds float64
}

func phase(t *testing.T, etcd *server, name string, run func()) phased {
	t.Helper()
	before, err := etcd.counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := ownCPU()
	profiled(t, name, run)
	used := (ownCPU() - own).Seconds()
	after, err := etcd.counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return phased{after.since(before), used, after.at.Sub(before.at).Seconds()}
}

// harness is what the calls of one change cost without causeway: their JSON and HTTP, to
// a server that answers nothing.
func harness(t *testing.T) float64 {
	a, stop := nobody(t)
	defer stop()
	const calls = 2000
	own := ownCPU()
	for range calls {
		if _, err := call[ipam.RequestAddressResponse](t.Context(), a, "nothing", ipam.RequestAddressRequest{PoolID: poolID(1)}); err != nil {
			t.Fatal(err)
		}
	}
	return 1000 * (ownCPU() - own).Seconds() / calls * 3 // six calls are two changes
}

// wait lets time pass: the periods that are measured, and containers' lives.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func milliseconds(times []time.Duration, quantile float64) float64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return float64(times[min(len(times)-1, int(quantile*float64(len(times))))]) / float64(time.Millisecond)
}
