package vswitch

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// bounded bounds the commands of a switch that is never restarted.
func bounded(run Exec) Exec {
	b := &breaker{run: run, generation: func() string { return "" }}
	return b.exec
}

// hung answers no command of that name until it is repaired.
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
				ask(CommandTimeout, ErrUnresponsive, commands)
				ask(0, ErrUnresponsive, 0)
				wait(openTime)
				ask(trialTimeout, ErrUnresponsive, commands)
				wait(openTime - 1)
				ask(0, ErrUnresponsive, 0)
				hung.repaired = true
				ask(0, ErrUnresponsive, 0)
				wait(1)
				ask(0, nil, 2)
				hung.repaired = false
				ask(CommandTimeout, ErrUnresponsive, commands)
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
		if _, err := b.exec(t.Context(), nil, "ovs-ofctl"); !errors.Is(err, ErrUnresponsive) {
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
		ctx, cancel := context.WithTimeout(t.Context(), CommandTimeout/2)
		defer cancel()
		if _, err := exec(ctx, nil, "ovs-ofctl"); err == nil || errors.Is(err, ErrUnresponsive) {
			t.Errorf("got %v", err)
		}
		if _, err := exec(t.Context(), nil, "ovs-vsctl"); err != nil {
			t.Error(err)
		}
	})
}
