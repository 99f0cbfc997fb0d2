package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Host is a machine with a Docker engine.
type Host struct {
	*Machine
	// Docker is the engine; its containerd is its child.
	Docker *Daemon
	// Causeway is `causeway serve`, or the managed plugin; nil in a lab without it.
	Causeway Service
	// Registry serves the managed plugin at [RegistryAddr]; nil in a lab without it.
	Registry *Daemon
	// OVSDB and VSwitchd are Open vSwitch; nil in a lab without it.
	OVSDB, VSwitchd *Daemon
}

func (l *Lab) newHost(m *Machine) *Host {
	h := &Host{Machine: m}
	h.Docker = &Daemon{
		machine: m, name: "docker", argv: func() []string { return dockerArgv(l.state.Options, m.name) },
		prepare: func(ctx context.Context) error {
			return dropPIDFiles(ctx, m, "/run/docker.pid", "/run/docker/containerd/containerd.pid")
		},
		ready: func(ctx context.Context) error {
			return answers(ctx, m.Path("/run/docker.sock"), http.MethodGet, "/_ping")
		},
	}
	if l.state.Options.OVS {
		h.addOVS()
		m.services = append(m.services, h.OVSDB, h.VSwitchd)
	}
	switch {
	case l.state.Options.Plugin:
		h.addRegistry()
		h.Causeway = managed{h}
		m.services = append(m.services, h.Registry, h.Docker, h.Causeway)
	case l.state.Options.NoCauseway:
		m.services = append(m.services, h.Docker)
	default:
		h.Causeway = h.newCauseway()
		m.services = append(m.services, h.Causeway, h.Docker)
	}
	return h
}

func (h *Host) newCauseway() *Daemon {
	m, o := h.Machine, h.lab.state.Options
	d := &Daemon{
		machine: m, name: "causeway", argv: func() []string { return append(unitLimits(), causewayArgv(o, m.spec, h.lab.state.Token)...) },
		ready: func(ctx context.Context) error {
			return answers(ctx, m.Path("/run/docker/plugins/causeway.sock"), http.MethodPost, "/Plugin.Activate")
		},
	}
	d.prepare = func(context.Context) error {
		return install(cmp.Or(d.Binary, o.Causeway), m.Path(filepath.Join(binDir, "causeway")))
	}
	return d
}

// start brings the host's daemons up, causeway first: an engine that finds its
// plugin at once never waits for it.
func (h *Host) start(ctx context.Context) error {
	for _, service := range h.services {
		if _, later := service.(managed); later {
			continue // installed once the registry has it
		}
		if service == h.Causeway && h.Causeway.PID() != 0 {
			continue // it made the others' token
		}
		if err := service.Start(ctx); err != nil {
			return err
		}
	}
	return h.loadBusybox(ctx)
}

// dropPIDFiles removes those of an engine that was killed, once its containerd has
// ended, too: old engines mistake a zombie for a running process.
func dropPIDFiles(ctx context.Context, m *Machine, paths ...string) error {
	for _, path := range paths {
		text, err := os.ReadFile(m.Path(path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if p, err := identify(pid); err == nil {
			if err := p.wait(ctx); err != nil {
				return err
			}
		}
		if err := os.Remove(m.Path(path)); err != nil {
			return err
		}
	}
	return nil
}

// dockerArgv leaves every path at its default: they are the machine's own.
func dockerArgv(o Options, host string) []string {
	return append([]string{
		"dockerd", "--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + filepath.Join(cgroupRoot, o.Name, host),
	}, o.DockerArgs...)
}

// storeURL is where the records of a lab with [StoreEtcd] are.
func storeURL() string { return fmt.Sprintf("http://%s:2379", near().addrs(storeNumber)[0].Addr()) }

// unitLimits start a binary with what causeway.service leaves it.
func unitLimits() []string {
	return []string{"setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+net_admin,+sys_admin,+net_raw"}
}

// causewayArgv has the first host begin a closed cluster and the others join it,
// unless the lab has a server of its own. token is empty until the first one runs.
func causewayArgv(o Options, s spec, token string) []string {
	vtep := s.nics[0].addrs[0]
	if o.VTEP6 {
		vtep = s.nics[0].addrs[1]
	}
	argv := []string{"causeway", "serve", "--host-name", s.name, "--vtep", vtep.Addr().String()}
	switch {
	case o.Store == StoreEtcd:
		argv = append(argv, "--store", storeURL(), "--store-insecure=true")
	case s.name != hostName(1):
		argv = append(argv, "--join", token)
	}
	return append(argv, o.CausewayArgs...)
}

// takeToken has the first host make the token that the others join with.
func (l *Lab) takeToken(ctx context.Context) error {
	token, err := l.hosts[0].Run(ctx, "causeway", "token", "--quiet", "--ttl", "24h")
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Token = strings.TrimSpace(token)
	return l.state.save()
}

// answers returns nil if the HTTP server on a unix socket answers an empty request.
func answers(ctx context.Context, socket, method, path string) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, strings.NewReader(""))
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(path + ": " + response.Status)
	}
	return nil
}
