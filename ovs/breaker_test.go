package ovs

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
)

// bounded bounds the commands of a switch that is never restarted.
func bounded(run Exec) Exec {
	b := &breaker{run: run, generation: func() string { return "" }}
	return b.exec
}

// hung answers no command of that name until it is mended.
type hung struct {
	command  string
	repaired bool
	asked    int
}

func (h *hung) exec(ctx context.Context, _ io.Reader, command string, _ ...string) ([]byte, error) {
	h.asked++
	if h.repaired || command != h.command {
		return []byte("fine"), nil
	}
	<-ctx.Done()
	return nil, errors.New("signal: killed")
}

func TestBreakerOpensForAHungSwitch(t *testing.T) {
	for _, command := range []string{"ovs-vsctl", "ovs-ofctl"} {
		t.Run(command, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hung := &hung{command: command}
				exec := bounded(hung.exec)
				// ask runs one pass of a caller that stops at the first error.
				ask := func(took time.Duration, want error, asked int) {
					t.Helper()
					begin := time.Now()
					hung.asked = 0
					var err error
					for _, command := range []string{"ovs-vsctl", "ovs-ofctl"} {
						if _, err = exec(t.Context(), nil, command); err != nil {
							break
						}
					}
					if !errors.Is(err, want) || time.Since(begin) != took || hung.asked != asked {
						t.Errorf("after %s and %d commands got %v, want %v after %s and %d", time.Since(begin), hung.asked, err, want, took, asked)
					}
				}
				commands := map[string]int{"ovs-vsctl": 1, "ovs-ofctl": 2}[command]
				ask(commandTimeout, errUnresponsive, commands)
				ask(0, errUnresponsive, 0)
				wait(openTime)
				ask(trialTimeout, errUnresponsive, commands)
				wait(openTime - 1)
				ask(0, errUnresponsive, 0)
				hung.repaired = true
				ask(0, errUnresponsive, 0)
				wait(1)
				ask(0, nil, 2)
				hung.repaired = false
				ask(commandTimeout, errUnresponsive, commands)
			})
		})
	}
}

// wait lets the time of a synctest pass.
func wait(d time.Duration) { <-time.After(d) }

func TestBreakerClosesWhenTheSwitchRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung, generation := &hung{command: "ovs-ofctl"}, "first"
		b := &breaker{run: hung.exec, generation: func() string { return generation }}
		if _, err := b.exec(t.Context(), nil, "ovs-ofctl"); !errors.Is(err, errUnresponsive) {
			t.Errorf("got %v", err)
		}
		generation, hung.repaired = "second", true
		if _, err := b.exec(t.Context(), nil, "ovs-ofctl"); err != nil {
			t.Error(err)
		}
	})
}

func TestBreakerIgnoresTheCallersOwnDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		exec := bounded((&hung{command: "ovs-ofctl"}).exec)
		ctx, cancel := context.WithTimeout(t.Context(), commandTimeout/2)
		defer cancel()
		if _, err := exec(ctx, nil, "ovs-ofctl"); err == nil || errors.Is(err, errUnresponsive) {
			t.Errorf("got %v", err)
		}
		if _, err := exec(t.Context(), nil, "ovs-vsctl"); err != nil {
			t.Error(err)
		}
	})
}

func TestAHungSwitchBlocksNoApply(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	host := rig.Hosts[0]
	var networks []fabric.Network
	for number := range 4 {
		networks = append(networks, rig.Network(number+1))
		rig.Start(host, networks[number], 2)
	}
	m := site.machine(t, host)
	if err := m.daemons["ovs-vswitchd"].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	host.Plane.Invalidate()
	const slack = time.Second // for the commands that are answered
	for _, limit := range []time.Duration{commandTimeout, 0} {
		begin := time.Now()
		for _, network := range networks {
			_, err := host.Plane.Apply(t.Context(), rig.Segment(host, network))
			if err == nil || err.Error() != "ovs: "+errUnresponsive.Error() {
				t.Errorf("Apply of %s: %v", network.ID, err)
			}
		}
		took := time.Since(begin)
		t.Logf("a pass over %d networks took %s", len(networks), took.Round(time.Millisecond))
		if took > limit+slack {
			t.Errorf("that is more than %s", limit+slack)
		}
	}
	if err := host.Plane.Check(t.Context(), networks[0]); !errors.Is(err, errUnresponsive) {
		t.Errorf("Check: %v", err)
	}
	rig.Prune() // it can do nothing, and says nothing
	m.stop("ovs-vswitchd", syscall.SIGKILL)
	m.startSwitch(t)
	begin := time.Now()
	until(t, "the new switch is asked", func() bool {
		_, err := host.Plane.Apply(t.Context(), rig.Segment(host, networks[0]))
		return err == nil
	})
	if took := time.Since(begin); took > openTime/2 {
		t.Errorf("the new switch was asked after %s", took)
	}
	rig.Apply()
}
