package vswitch

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// How long a switch that does not answer may hold up its caller, which has
// networks of other modes to look after.
const (
	// CommandTimeout bounds a command: ovs-vsctl and ovs-ofctl wait for a daemon
	// that hangs for as long as they are let.
	CommandTimeout = 3 * time.Second
	// openTime is how long no command is run after one timed out.
	openTime = 10 * time.Second
	// trialTimeout bounds the commands after that, until the switch has answered.
	trialTimeout = time.Second
)

var ErrUnresponsive = errors.New("Open vSwitch does not answer: ovs-vswitchd or ovsdb-server hangs") //nolint:staticcheck // it is a name

// breaker is a circuit breaker: it runs commands, and fails at once those that a
// hung switch would not answer.
type breaker struct {
	run Exec
	// generation changes with a restart of the switch, which closes the breaker.
	generation func() string

	mu      sync.Mutex
	trial   bool
	until   time.Time // open until then
	tripped string    // the generation that timed out
}

func (b *breaker) exec(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
	if b.open() {
		return nil, ErrUnresponsive
	}
	bounded, cancel := context.WithTimeout(ctx, b.timeout())
	defer cancel()
	out, err := b.run(bounded, stdin, command, args...)
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		b.trip()
		return nil, ErrUnresponsive
	case err == nil && command == "ovs-ofctl":
		b.close() // ovs-vswitchd itself answers it; most of ovs-vsctl is for the database
	}
	return out, err
}

// trip opens the breaker.
func (b *breaker) trip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trial, b.until, b.tripped = true, time.Now().Add(openTime), b.generation()
}

func (b *breaker) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trial = false
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Now().Before(b.until) && b.generation() == b.tripped
}

func (b *breaker) timeout() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trial {
		return trialTimeout
	}
	return CommandTimeout
}
