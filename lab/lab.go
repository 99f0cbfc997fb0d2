package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// ErrNotUp is wrapped by the error of what needs a lab that is up.
var ErrNotUp = errors.New("not up: causeway-lab up brings it up")

// Lab is a lab that is up.
type Lab struct {
	machines []*Machine
	hosts    []*Host
	// Etcd is the server of a lab with [StoreEtcd]; else nil.
	Etcd *Daemon

	mu    sync.Mutex // guards state's records and its file
	state *state
}

// Up brings a lab up. If that fails, or ctx ends, what was begun is taken down.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := checkMachine(); err != nil {
		return nil, err
	}
	if err := Fetch(ctx, o); err != nil {
		return nil, err
	}
	l, err := create(o)
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", o.Name, err)
	}
	if err := l.build(ctx); err != nil {
		err = fmt.Errorf("lab %s: %w", o.Name, err)
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

// checkMachine says at once all that this machine lacks.
func checkMachine() error {
	if err := checkRoot(); err != nil {
		return err
	}
	var missing []string
	for command, debian := range requirements() {
		if _, err := exec.LookPath(command); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", command, debian))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the lab needs %s: make deps installs them", strings.Join(missing, ", "))
	}
	return nil
}

func checkRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab lives in network namespaces: this needs root")
	}
	return nil
}

// requirements are commands and the Debian packages that hold them.
func requirements() map[string]string {
	return map[string]string{
		"apt-get": "apt", "dpkg": "dpkg", "unshare": "util-linux", "nsenter": "util-linux",
		"ip": "iproute2", "bridge": "iproute2", "iptables": "iptables", "nft": "nftables",
		"busybox": "busybox-static", "ping": "iputils-ping", "ethtool": "ethtool",
	}
}

// create claims the lab's name.
func create(o Options) (*Lab, error) {
	if err := os.MkdirAll(runRoot, 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(runDir(o.Name), 0o755); err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, errors.New("it is up already: causeway-lab down takes it down")
		}
		return nil, err
	}
	s := &state{Options: o, Machines: make(map[string]*record)}
	for _, spec := range layout(o) {
		s.Machines[spec.name] = &record{Daemons: make(map[string]process)}
	}
	return assemble(s), s.save()
}

// Open gives a lab that is up; "" is [DefaultName]. The error wraps [ErrNotUp].
func Open(name string) (*Lab, error) {
	if name == "" {
		name = DefaultName()
	}
	if err := checkRoot(); err != nil {
		return nil, err
	}
	s, err := load(name)
	if err != nil {
		return nil, err
	}
	return assemble(s), nil
}

func assemble(s *state) *Lab {
	l := &Lab{state: s}
	for _, spec := range layout(s.Options) {
		m := &Machine{lab: l, spec: spec, record: s.Machines[spec.name]}
		l.machines = append(l.machines, m)
		switch {
		case spec.engine != "":
			l.hosts = append(l.hosts, l.newHost(m))
		case spec.name == storeName:
			l.Etcd = l.newEtcd(m)
			m.services = []Service{l.Etcd}
		}
	}
	return l
}

// Name is the lab's.
func (l *Lab) Name() string { return l.state.Options.Name }

// Token is the one that the hosts after the first have joined with; empty in a lab
// with a store of its own.
func (l *Lab) Token() string { return l.state.Token }

// Machines are all machines, the switch first, the hosts last.
func (l *Lab) Machines() []*Machine { return l.machines }

// Hosts are the machines with a Docker engine: h1, h2, …
func (l *Lab) Hosts() []*Host { return l.hosts }

// Machine gives the machine of that name.
func (l *Lab) Machine(name string) (*Machine, error) {
	var known []string
	for _, m := range l.machines {
		if m.name == name {
			return m, nil
		}
		known = append(known, m.name)
	}
	return nil, fmt.Errorf("lab %s has no machine %q: there are %s", l.Name(), name, strings.Join(known, ", "))
}

// Host gives the host of that name.
func (l *Lab) Host(name string) (*Host, error) {
	m, err := l.Machine(name)
	if err != nil {
		return nil, err
	}
	for _, h := range l.hosts {
		if h.Machine == m {
			return h, nil
		}
	}
	return nil, fmt.Errorf("machine %s has no Docker", name)
}

func (l *Lab) logDir(machine string) string { return filepath.Join(runDir(l.Name()), machine) }

func (l *Lab) build(ctx context.Context) error {
	log := l.state.Options.Log
	fmt.Fprintf(log, "lab %s: starting %d machines\n", l.Name(), len(l.machines))
	if err := l.eachMachine((*Machine).boot); err != nil {
		return err
	}
	if err := l.wire(ctx); err != nil {
		return err
	}
	if l.Etcd != nil {
		if err := l.Etcd.Start(ctx); err != nil {
			return err
		}
	}
	if o := l.state.Options; o.tokens() && !o.Plugin {
		if err := l.hosts[0].Causeway.Start(ctx); err != nil {
			return err
		}
		if err := l.takeToken(ctx); err != nil {
			return err
		}
	}
	buildCtx := ctx
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range l.hosts {
		group.Go(func() error {
			err := h.start(ctx)
			if err == nil {
				fmt.Fprintf(log, "%s is up: Docker %s, %s\n", h.name, h.engine, h.Addrs()[0].Addr())
			}
			return err
		})
	}
	if err := group.Wait(); err != nil || !l.state.Options.Plugin {
		return err
	}
	return l.installPlugin(buildCtx)
}

// eachMachine works on all machines at once.
func (l *Lab) eachMachine(do func(*Machine) error) error {
	var group errgroup.Group
	for _, m := range l.machines {
		group.Go(func() error { return do(m) })
	}
	return group.Wait()
}
