package vswitch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	goovs "github.com/digitalocean/go-openvswitch/ovs"
)

// Exec runs one command of Open vSwitch and returns its standard output; a nil
// stdin is empty. The error of a command that failed is what it said.
type Exec func(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error)

// execIn returns an Exec that runs the real commands against the daemons of runDir.
func execIn(runDir string) Exec {
	return func(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
		var stdout, stderr bytes.Buffer
		cmd := exec.CommandContext(ctx, command, args...)
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+runDir)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
		err := cmd.Run()
		switch {
		case err == nil:
			return stdout.Bytes(), nil
		case errors.Is(err, exec.ErrNotFound):
			return nil, fmt.Errorf("%s is not on the PATH: install openvswitch-switch", command)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%s did not answer: %w", command, ctx.Err())
		}
		if said := strings.TrimSpace(stderr.String()); said != "" {
			return nil, errors.New(said)
		}
		return nil, fmt.Errorf("%s: %w", command, err)
	}
}

// client has the verbs of go-openvswitch run through s.exec under ctx, which
// the library itself does not know.
func (s *Switch) client(ctx context.Context) *goovs.Client {
	return goovs.New(goovs.Exec(func(command string, args ...string) ([]byte, error) {
		return s.Exec(ctx, nil, command, args...)
	}))
}

// cause unwraps the library's error: what the command said.
func cause(err error) error {
	var wrapped *goovs.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
