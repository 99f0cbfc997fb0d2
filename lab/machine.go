package lab

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

//go:embed machine.sh
var machineScript string

// binDir is where a machine has its own copies of programs.
const binDir = "/run/lab/bin"

// Machine is one of the lab's machines.
type Machine struct {
	lab *Lab
	spec
	record   *record
	services []Service
}

// Name is h1, router, …
func (m *Machine) Name() string { return m.name }

// PID is that of the process that keeps the machine's namespaces.
func (m *Machine) PID() int { return m.record.Keeper.PID }

// Engine is the version of a host's Docker, one of [Engines]; else empty.
func (m *Machine) Engine() string { return m.engine }

// Services are the servers that the lab runs on the machine, in the order of
// their start.
func (m *Machine) Services() []Service { return m.services }

// Addrs are those on the machine's links, IPv4 first; none on the switch.
func (m *Machine) Addrs() []netip.Prefix {
	var addrs []netip.Prefix
	for _, nic := range m.nics {
		addrs = append(addrs, nic.addrs...)
	}
	return addrs
}

// Path gives the way from outside to a file as the machine sees it; a unix
// socket can be dialled by it too.
func (m *Machine) Path(inside string) string {
	return filepath.Join("/proc", fmt.Sprint(m.record.Keeper.PID), "root", inside)
}

// Command prepares argv to run inside the machine, with Docker's client
// pointed at the machine's engine. The process that starts is argv itself, so
// it can be sent signals.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", m.enter(argv)...)
	cmd.Env = m.environ()
	cmd.WaitDelay = 5 * time.Second // what it started may keep its output open
	if !m.record.Keeper.alive() {
		cmd.Err = fmt.Errorf("machine %s is not up", m.name)
	}
	return cmd
}

func (m *Machine) enter(argv []string) []string {
	return append([]string{"--target", fmt.Sprint(m.record.Keeper.PID), "--mount", "--net", "--uts", "--"}, argv...)
}

// environ is ours, with the machine's own programs first on the path.
func (m *Machine) environ() []string {
	if m.engine == "" {
		return os.Environ()
	}
	return append(os.Environ(),
		"PATH="+strings.Join([]string{binDir, programPath(m.roots()), os.Getenv("PATH")}, ":"),
		"DOCKER_HOST=unix:///run/docker.sock")
}

// roots are the folders of the machine's own packages.
func (m *Machine) roots() (dirs []string) {
	if m.engine != "" {
		dirs = append(dirs, engineDir(m.engine))
		if m.lab.state.Options.OVS {
			dirs = append(dirs, ovsDir())
		}
		if m.lab.state.Options.WireGuard {
			dirs = append(dirs, wireguardDir())
		}
		if m.lab.state.Options.Compose {
			dirs = append(dirs, composeDir())
		}
	}
	return dirs
}

// Run runs argv inside the machine and returns what it wrote to stdout. The
// error holds what it wrote to stderr, and wraps [exec.ExitError].
func (m *Machine) Run(ctx context.Context, argv ...string) (string, error) {
	return m.feed(ctx, nil, argv...)
}

// feed is Run with a standard input.
func (m *Machine) feed(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	cmd := m.Command(ctx, argv...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return stdout.String(), fmt.Errorf("%s: %s: %w", m.name, strings.Join(argv, " "), err)
	}
	return stdout.String(), nil
}

// boot starts the machine's keeper and returns when the machine's file systems
// are mounted.
func (m *Machine) boot() error {
	varLib := filepath.Join(dataDir(m.lab.Name()), m.name)
	if err := os.MkdirAll(varLib, 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(m.lab.logDir(m.name), 0o755); err != nil {
		return err
	}
	output, err := m.startKeeper(varLib)
	if err != nil {
		return fmt.Errorf("machine %s: %w", m.name, err)
	}
	if !strings.HasSuffix(output, "up\n") {
		return fmt.Errorf("machine %s: %s", m.name, strings.TrimSpace(output))
	}
	if err := m.readNamespaces(); err != nil {
		return fmt.Errorf("machine %s: %w", m.name, err)
	}
	return nil
}

// startKeeper returns all that the keeper says until it sleeps or ends.
func (m *Machine) startKeeper(varLib string) (output string, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = r.Close() }()
	// Slave: what the machine mounts stays inside. The keeper ends with Down alone.
	cmd := exec.CommandContext(context.Background(), "unshare", "--mount", "--net", "--uts", "--propagation", "slave",
		"sh", "-c", machineScript, "lab-machine", m.name, varLib, libraryPath(m.roots()))
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return "", err
	}
	keeper, err := adopt(cmd)
	if err != nil {
		return "", err
	}
	m.lab.mu.Lock()
	m.record.Keeper = keeper
	m.lab.mu.Unlock()
	text, err := io.ReadAll(r)
	return string(text), err
}

// adopt lets a process outlive us.
func adopt(cmd *exec.Cmd) (process, error) {
	p, err := identify(cmd.Process.Pid)
	return p, errors.Join(err, cmd.Process.Release())
}

// readNamespaces notes which namespaces are the machine's. What runs in them is
// killed in the end, so they must not be our own.
func (m *Machine) readNamespaces() error {
	mount, err := ownNamespace(m.record.Keeper.PID, "mnt")
	if err != nil {
		return err
	}
	net, err := ownNamespace(m.record.Keeper.PID, "net")
	if err != nil {
		return err
	}
	m.lab.mu.Lock()
	defer m.lab.mu.Unlock()
	m.record.Mount, m.record.Net = mount, net
	return m.lab.state.save()
}

func ownNamespace(pid int, kind string) (string, error) {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	if err != nil {
		return "", err
	}
	ours, err := os.Readlink("/proc/self/ns/" + kind)
	if err == nil && theirs == ours {
		err = fmt.Errorf("process %d has no %s namespace of its own", pid, kind)
	}
	return theirs, err
}
