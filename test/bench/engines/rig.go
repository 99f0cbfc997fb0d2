package engines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/lab"
)

// Ports of what runs in the standing containers. Where they are published, that is by the
// host's port of publishedFrom more: the host itself is a row, too.
const (
	iperfPort    = 5201
	sockperfPort = 11111
	connectPort  = 7001
	echoPort     = 7002

	publishedFrom = 20000
)

// place is where traffic begins or ends: a network namespace, by a process in it, and the
// address that the other end knows.
type place struct {
	pid       int
	addr      netip.Addr
	published bool
}

// seen is a port of the place as the other end knows it.
func (p place) seen(port int) int {
	if p.published {
		port += publishedFrom
	}
	return port
}

// stand is a row that is ready to be measured.
type stand struct {
	row
	hosts          []*lab.Host
	client, server place // on the first host and on the second
}

// rig is what is up.
type rig struct {
	labs   map[bool]*lab.Lab // by switched
	stands []*stand
	log    io.Writer
}

// guest is a container on the first host that is connected to networks.
const (
	guest      = "bench-guest"
	guestHouse = "bench-guest-house"
)

// setUp brings up the labs that the rows need, and the rows. Those that cannot be are
// given back with the reason in fails.
func setUp(ctx context.Context, name, binary string, wanted []row, log io.Writer) (*rig, []row, error) {
	g := &rig{labs: make(map[bool]*lab.Lab), log: log}
	for _, switched := range []bool{false, true} {
		if !slices.ContainsFunc(wanted, func(r row) bool { return r.switched == switched }) {
			continue
		}
		options := lab.Options{
			Name: name, Hosts: 2, Engine: "28.5", OVS: switched, WireGuard: true, Causeway: binary, Log: log,
			CausewayArgs: []string{"--log-level=debug"},
		}
		if switched {
			options.Name += "-ovs"
		}
		l, err := lab.Up(ctx, options)
		if err != nil {
			return g, nil, err
		}
		g.labs[switched] = l
		if err := prepare(ctx, l, switched); err != nil {
			return g, nil, err
		}
	}
	var out []row
	for _, r := range wanted {
		began := time.Now()
		s, err := g.stand(ctx, r)
		if err != nil {
			if ctx.Err() != nil {
				return g, nil, ctx.Err()
			}
			r.fails = err.Error()
			fmt.Fprintf(log, "row %s is left out: %v\n", r.name, err)
		} else {
			g.stands = append(g.stands, s)
			fmt.Fprintf(log, "row %s stands (%v)\n", r.name, time.Since(began).Round(10*time.Millisecond))
		}
		out = append(out, r)
	}
	return g, out, nil
}

// takeDown ends the labs, also where the run was given up.
func (g *rig) takeDown(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer stop()
	var errs []error
	for _, l := range g.labs {
		errs = append(errs, l.Down(ctx))
	}
	return errors.Join(errs...)
}

// prepare has both hosts ready for all rows: NICs for macvlan and underlay, the swarm for
// the overlay, and the guest.
func prepare(ctx context.Context, l *lab.Lab, switched bool) error {
	first := l.Hosts()[0]
	if !switched {
		if err := addNICs(ctx, l, "eth1", "eth2"); err != nil {
			return err
		}
		if err := joinSwarm(ctx, l.Hosts()); err != nil {
			return err
		}
	}
	if _, err := docker(ctx, first, "network", "create", guestHouse); err != nil {
		return err
	}
	_, err := docker(ctx, first, "run", "-d", "--name", guest, "--net", guestHouse, "busybox", "sleep", "86400")
	return err
}

// addNICs gives each host further cables to the switch.
func addNICs(ctx context.Context, l *lab.Lab, names ...string) error {
	sw, err := l.Machine("switch")
	if err != nil {
		return err
	}
	for _, h := range l.Hosts() {
		for _, name := range names {
			port := h.Name() + name
			for _, argv := range [][]string{
				{"ip", "link", "add", "name", port, "type", "veth", "peer", "name", name, "netns", fmt.Sprint(h.PID())},
				{"ip", "link", "set", port, "master", "br0", "up"},
			} {
				if _, err := sw.Run(ctx, argv...); err != nil {
					return err
				}
			}
			if _, err := h.Run(ctx, "ip", "link", "set", name, "up"); err != nil {
				return err
			}
		}
	}
	return nil
}

func joinSwarm(ctx context.Context, hosts []*lab.Host) error {
	address := hosts[0].Addrs()[0].Addr().String()
	if _, err := docker(ctx, hosts[0], "swarm", "init", "--advertise-addr="+address); err != nil {
		return err
	}
	token, err := docker(ctx, hosts[0], "swarm", "join-token", "-q", "worker")
	if err != nil {
		return err
	}
	_, err = docker(ctx, hosts[1], "swarm", "join", "--token", token, address+":2377")
	return err
}

// stand makes a row's networks and its standing containers.
func (g *rig) stand(ctx context.Context, r row) (*stand, error) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	s := &stand{row: r, hosts: g.labs[r.switched].Hosts()}
	if r.hosts {
		s.client, s.server = hostPlace(s.hosts[0]), hostPlace(s.hosts[1])
		return s, nil
	}
	for _, first := range []bool{false, true} {
		if r.create == nil || first && r.noFirst {
			continue
		}
		if err := s.createNetwork(ctx, first); err != nil {
			return nil, err
		}
	}
	if r.name == "none" {
		return s, nil
	}
	places := make([]place, len(s.hosts))
	group, ctx := errgroup.WithContext(ctx)
	for n := range s.hosts {
		group.Go(func() (err error) {
			places[n], err = s.standing(ctx, n)
			return err
		})
	}
	err := group.Wait()
	s.client, s.server = places[0], places[1]
	return s, err
}

func (s *stand) createNetwork(ctx context.Context, first bool) error {
	for n, h := range s.hosts {
		argv := append([]string{"network", "create", "--subnet", s.subnet(first)}, s.create...)
		if s.each {
			argv = append(argv, "--ip-range", s.ranged(first, n+1))
		}
		if _, err := docker(ctx, h, append(argv, s.network(first))...); err != nil {
			return err
		}
		if !s.each {
			break
		}
	}
	if s.create[1] != "causeway" {
		return nil // an overlay comes to a worker with its first container
	}
	return until(ctx, func() error {
		_, err := docker(ctx, s.hosts[1], "network", "inspect", s.network(first))
		return err
	})
}

// standing runs the container that stays on host n, from 0.
func (s *stand) standing(ctx context.Context, n int) (place, error) {
	h, name := s.hosts[n], "bench-"+dashed(s.name)
	argv := []string{"run", "-d", "--name", name, "--net", s.network(false)}
	if s.publish && n == 1 {
		for _, port := range []int{iperfPort, sockperfPort, connectPort, echoPort} {
			for _, protocol := range []string{"tcp", "udp"} {
				argv = append(argv, "-p", fmt.Sprintf("%d:%d/%s", publishedFrom+port, port, protocol))
			}
		}
	}
	if _, err := docker(ctx, h, append(argv, "busybox", "sleep", "86400")...); err != nil {
		return place{}, err
	}
	out, err := docker(ctx, h, "inspect", "-f", "{{.State.Pid}}{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}}", name)
	if err != nil {
		return place{}, err
	}
	var at place
	var address string
	if _, err := fmt.Sscan(out, &at.pid, &address); err != nil {
		return place{}, fmt.Errorf("%s of %s: %q: %w", name, h.Name(), out, err)
	}
	if s.publish {
		at.addr, at.published = h.Addrs()[0].Addr(), true
		return at, nil
	}
	at.addr, err = netip.ParseAddr(address)
	return at, err
}

func hostPlace(h *lab.Host) place { return place{pid: h.PID(), addr: h.Addrs()[0].Addr()} }

func dashed(name string) string { return strings.NewReplacer(" ", "-", "_", "-").Replace(name) }

// docker runs the engine's client on a host.
func docker(ctx context.Context, h *lab.Host, argv ...string) (string, error) {
	out, err := h.Run(ctx, append([]string{"docker"}, argv...)...)
	return strings.TrimSpace(out), err
}

// until tries again until there is no error, or ctx ends.
func until(ctx context.Context, try func() error) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// logSize is how much a host's causeway has logged.
func logSize(h *lab.Host) (int64, error) {
	info, err := os.Stat(h.Causeway.Log())
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
