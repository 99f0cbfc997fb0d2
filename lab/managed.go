package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Service is a server on a machine that can be stopped and started: a [Daemon],
// or causeway as a managed plugin.
type Service interface {
	Name() string
	// PID is that of the server's process, zero if it does not run.
	PID() int
	// Log is the path of what it wrote, over all its starts.
	Log() string
	// Start returns when it serves.
	Start(ctx context.Context) error
	// Stop asks it to end and returns when it has; Kill ends it as a crash does.
	Stop(ctx context.Context) error
	Kill(ctx context.Context) error
	// Restart is Stop, then Start.
	Restart(ctx context.Context) error
}

// managed is causeway as the host's engine runs it. While the engine is down so
// is the plugin, and stopping or starting it waits for nothing: the engine
// starts it again by itself.
type managed struct{ host *Host }

func (p managed) Name() string { return "causeway" }

// Log is the engine's: it takes what its plugins write.
func (p managed) Log() string { return p.host.Docker.Log() }

func (p managed) PID() int {
	running, err := p.process()
	if err != nil || !running.alive() {
		return 0
	}
	return running.PID
}

// Start asks again while containerd still removes what was killed: the engine says so, and
// leaves it to its user.
func (p managed) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var failed error
	err := until(ctx, func(ctx context.Context) error {
		failed = p.switchTo(ctx, "enable")
		if failed != nil && strings.Contains(failed.Error(), "stale containerd task") {
			return failed
		}
		return nil
	})
	return cmp.Or(err, failed)
}

func (p managed) Stop(ctx context.Context) error { return p.switchTo(ctx, "disable", "--force") }

// Kill also disables the plugin, which the engine would start again at once. An engine that
// is asked to disable one while it starts it again may start and end it by turns from then
// on. So the process is stopped first, and killed when the engine's SIGTERM waits for it.
func (p managed) Kill(ctx context.Context) error {
	running, err := p.process()
	if err != nil {
		return err
	}
	if !p.host.Docker.Running() {
		return errors.Join(running.signal(syscall.SIGKILL), running.wait(ctx))
	}
	if err := running.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	disabled := make(chan error, 1)
	go func() { disabled <- p.Stop(ctx) }()
	told := until(ctx, func(context.Context) error {
		if pending, err := running.pending(syscall.SIGTERM); err == nil && !pending {
			return errors.New("the engine has not told the plugin to end")
		}
		return nil
	})
	return errors.Join(told, running.signal(syscall.SIGKILL), running.wait(ctx), <-disabled)
}

func (p managed) Restart(ctx context.Context) error {
	return errors.Join(p.Stop(ctx), p.Start(ctx))
}

func (p managed) switchTo(ctx context.Context, verb string, flags ...string) error {
	if !p.host.Docker.Running() {
		return nil
	}
	name, err := p.host.PluginName(ctx)
	if err != nil {
		return err
	}
	argv := append([]string{"docker", "plugin", verb}, flags...)
	_, err = p.host.Run(ctx, append(argv, name)...)
	return err
}

// process finds the plugin's where the engine's runc notes it.
func (p managed) process() (process, error) {
	pattern := p.host.Path("/run/docker/runtime-runc/plugins.moby/*/state.json")
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		return process{}, errors.Join(err, fmt.Errorf("%s runs %d plugins", p.host.name, len(files)))
	}
	text, err := os.ReadFile(files[0])
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, nil
	}
	if err != nil {
		return process{}, err
	}
	var state struct {
		PID int `json:"init_process_pid"`
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return process{}, fmt.Errorf("%s: %w", files[0], err)
	}
	return identify(state.PID)
}

// PluginName is what the engine calls the managed plugin, with its tag.
func (h *Host) PluginName(ctx context.Context) (string, error) {
	names, err := h.Run(ctx, "docker", "plugin", "ls", "--format", "{{.Name}}")
	for name := range strings.FieldsSeq(names) {
		if strings.HasPrefix(name, PluginRepository) {
			return name, nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s has no managed plugin %s", h.name, PluginRepository))
}
