package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Daemon is a server on a machine. It outlives the process that starts it.
type Daemon struct {
	// Extra are arguments that the next starts have besides.
	Extra []string
	// Binary is what the next starts of causeway run; empty: the lab's own.
	Binary string

	machine *Machine
	name    string
	// argv is computed for each start.
	argv func() []string
	// prepare is called before a start; it may be nil.
	prepare func(context.Context) error
	// ready says why the daemon does not serve yet.
	ready func(context.Context) error
	// settle is what is to be done once it serves; it may be nil.
	settle func(context.Context) error
}

// startTimeout is how long a daemon may take until it serves.
const startTimeout = 60 * time.Second

// Name is docker, causeway, …
func (d *Daemon) Name() string { return d.name }

// Running says whether the daemon's process is there.
func (d *Daemon) Running() bool { return d.process().alive() }

// PID is that of the daemon's process, zero if it does not run.
func (d *Daemon) PID() int {
	if p := d.process(); p.alive() {
		return p.PID
	}
	return 0
}

// Log is the path of what the daemon wrote, over all its starts.
func (d *Daemon) Log() string {
	return filepath.Join(d.machine.lab.logDir(d.machine.name), d.name+".log")
}

func (d *Daemon) process() process {
	d.machine.lab.mu.Lock()
	defer d.machine.lab.mu.Unlock()
	return d.machine.record.Daemons[d.name]
}

// Start starts the daemon and returns when it serves. The error of one that does
// not holds the end of its log.
func (d *Daemon) Start(ctx context.Context) error {
	if d.Running() {
		return fmt.Errorf("%s on %s runs already", d.name, d.machine.name)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if d.prepare != nil {
		if err := d.prepare(ctx); err != nil {
			return d.fault(err)
		}
	}
	if err := d.launch(); err != nil {
		return d.fault(err)
	}
	err := until(ctx, func(ctx context.Context) error {
		if !d.Running() {
			return errEnded
		}
		return d.ready(ctx)
	})
	if err != nil {
		return d.fault(fmt.Errorf("%w\n%s", err, d.tail()))
	}
	if d.settle == nil {
		return nil
	}
	if err := d.settle(ctx); err != nil {
		return d.fault(err)
	}
	return nil
}

func (d *Daemon) launch() error {
	log, err := os.OpenFile(d.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := d.machine.Command(context.Background(), append(d.argv(), d.Extra...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p, err := adopt(cmd)
	if err != nil {
		return err
	}
	lab := d.machine.lab
	lab.mu.Lock()
	defer lab.mu.Unlock()
	d.machine.record.Daemons[d.name] = p
	return lab.state.save()
}

// Stop asks the daemon to end (SIGTERM) and returns when it has; one that does
// not run is fine.
func (d *Daemon) Stop(ctx context.Context) error { return d.end(ctx, syscall.SIGTERM) }

// Kill ends the daemon as a crash does (SIGKILL).
func (d *Daemon) Kill(ctx context.Context) error { return d.end(ctx, syscall.SIGKILL) }

// Restart is Stop, then Start.
func (d *Daemon) Restart(ctx context.Context) error {
	if err := d.Stop(ctx); err != nil {
		return err
	}
	return d.Start(ctx)
}

func (d *Daemon) end(ctx context.Context, sig syscall.Signal) error {
	p := d.process()
	if err := p.signal(sig); err != nil {
		return d.fault(err)
	}
	if err := p.wait(ctx); err != nil {
		return d.fault(err)
	}
	p.reap()
	return nil
}

func (d *Daemon) fault(err error) error {
	return fmt.Errorf("%s on %s: %w", d.name, d.machine.name, err)
}

// tail is the end of the log.
func (d *Daemon) tail() string {
	text, err := os.ReadFile(d.Log())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	lines = lines[max(0, len(lines)-15):]
	return strings.TrimSpace(string(bytes.Join(lines, []byte("\n"))))
}

var errEnded = errors.New("it ended by itself")

// until calls check until it returns nil, or errEnded. When ctx ends, the error is check's last one.
func until(ctx context.Context, check func(context.Context) error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil || errors.Is(err, errEnded) {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		}
	}
}
