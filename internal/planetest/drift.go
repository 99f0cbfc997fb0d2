package planetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Watch runs the Watch of host's plane until the test's end, and gives the
// networks that it says have drifted.
func (r *Rig) Watch(host *Host) <-chan string {
	r.t.Helper()
	drifted, done := make(chan string), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		done <- host.Plane.Watch(ctx, func(network string) {
			select {
			case drifted <- network:
			case <-ctx.Done():
			}
		})
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
	return drifted
}

// Heal applies host's segments each time that something has drifted, until
// healed holds. It returns how often that was.
func (r *Rig) Heal(host *Host, drifted <-chan string, healed func() bool) (times int) {
	r.t.Helper()
	const patience = 6 * timeout // healed may take seconds on a busy machine
	limit, beat := time.NewTimer(patience), time.NewTicker(10*time.Millisecond)
	defer limit.Stop()
	defer beat.Stop()
	began := time.Now()
	for !healed() {
		select {
		case <-drifted:
			times++
			r.Apply(host)
			r.t.Logf("applied after %s", time.Since(began))
		case <-beat.C:
		case <-limit.C:
			r.t.Fatalf("not repaired within %s; drifted %d times", patience, times)
		}
	}
	return times
}

// heal cuts something, and wants the plane to tell so by itself.
func heal(t *testing.T, config Config) {
	rig, network, a, b := Two(t, config)
	host := rig.Hosts[0]
	drifted := rig.Watch(host)
	mustReach(t, a, b)
	before := rig.text()
	config.Cut(t, host, rig.Segment(host, network))
	if before == rig.text() {
		t.Fatal("the test cut nothing")
	}
	rig.Heal(host, drifted, func() bool { return before == rig.text() })
	if diff := cmp.Diff(before, rig.text()); diff != "" {
		t.Errorf("the kernel is not what it was (-before +after):\n%s", diff)
	}
	mustReach(t, a, b)
}
