package ovs

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
	// commandLimit bounds a command: ovs-vsctl and ovs-ofctl wait for a daemon
	// that hangs for as long as they are let.
	commandLimit = 3 * time.Second
	// silence is how long nothing is asked after a command ran into its limit.
	silence = 10 * time.Second
	// doubtLimit bounds the commands after a silence, until the switch has answered.
	doubtLimit = time.Second
)

var errSilent = errors.New("Open vSwitch does not answer: ovs-vswitchd or ovsdb-server hangs") //nolint:staticcheck // it is a name

// patience runs commands, and spares callers those that a hung switch would not answer.
type patience struct {
	run Exec
	// generation is another text when the switch was restarted: it may answer then.
	generation func() string

	mu    sync.Mutex
	doubt bool
	until time.Time // of the silence
	since string    // the generation that fell silent
}

func (p *patience) exec(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
	if p.silent() {
		return nil, errSilent
	}
	bounded, cancel := context.WithTimeout(ctx, p.limit())
	defer cancel()
	out, err := p.run(bounded, stdin, command, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		p.doubt, p.until, p.since = true, time.Now().Add(silence), p.generation()
		return nil, errSilent
	case err == nil && command == "ovs-ofctl":
		p.doubt = false // ovs-vswitchd itself answers it; most of ovs-vsctl is for the database
	}
	return out, err
}

func (p *patience) silent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.until) && p.generation() == p.since
}

func (p *patience) limit() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubt {
		return doubtLimit
	}
	return commandLimit
}
