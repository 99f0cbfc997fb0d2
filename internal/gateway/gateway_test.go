package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// connects says whether a connection from a machine to a server on another comes about at
// an address and port, and whom the server, which has port 80, saw.
func connects(t *testing.T, from, to *lantest.Machine, at string) (peer netip.Addr, ok bool) {
	t.Helper()
	var listener net.Listener
	// A process that is just being started holds the last one's listener for a moment.
	await.Within(t, 5*time.Second, "port 80 is free", func() error {
		return nl.Do(to.NS, func() (err error) {
			listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", ":80")
			return err
		})
	})
	peers := make(chan netip.Addr, 1)
	go func() {
		defer close(peers)
		if conn, err := listener.Accept(); err == nil {
			peers <- conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			_ = conn.Close()
		}
	}()
	err := nl.Do(from.NS, func() error {
		conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(t.Context(), "tcp", at)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err == nil {
		peer = <-peers
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	for range peers {
	}
	return peer, err == nil
}

func TestWayOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start(network(1))
	for _, addr := range []string{"10.9.0.9", "fd09::9"} {
		if !pings(a, addr) {
			t.Errorf("%s is not reached:\n%s", addr, r.text())
		}
	}
	if pings(r.outside, "172.31.1.2") {
		t.Error("the outside has a route to containers")
	}
	r.outside.IP("route add 172.31.1.0/24 via 10.9.0.1\n -6 route add fd31:1::/64 via fd09::1")
	for _, addr := range []string{"172.31.1.2", "fd31:1::2"} {
		if pings(r.outside, addr) {
			t.Errorf("%s is reached from outside", addr)
		}
		if !pings(r.host, addr) {
			t.Errorf("%s is not reached by its host", addr)
		}
	}
}

func TestMasquerade(t *testing.T) {
	for name, masquerade := range map[string]bool{"with": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			one := network(1)
			one.NoMasquerade = !masquerade
			a := r.start(one)
			r.outside.IP("route add 172.31.1.0/24 via 10.9.0.1\n -6 route add fd31:1::/64 via fd09::1")
			for addr, want := range map[string]string{"10.9.0.9": "10.9.0.1", "fd09::9": "fd09::1"} {
				if !masquerade {
					want = map[string]string{"10.9.0.9": "172.31.1.2", "fd09::9": "fd31:1::2"}[addr]
				}
				if peer, ok := connects(t, a, r.outside, net.JoinHostPort(addr, "80")); !ok || peer.String() != want {
					t.Errorf("%s saw %s, %t; want %s", addr, peer, ok, want)
				}
			}
		})
	}
}

func TestHostAccess(t *testing.T) {
	for name, open := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			one := network(1)
			one.HostAccess = open
			a := r.start(one)
			for _, addr := range []string{"172.31.1.1", "10.9.0.1", "fd31:1::1", "fd09::1"} {
				if _, ok := connects(t, a, r.host, net.JoinHostPort(addr, "80")); ok != open {
					t.Errorf("the host's %s is reached: %t", addr, ok)
				}
			}
			for _, addr := range []string{"172.31.1.1", "fd31:1::1"} {
				if !pings(a, addr) {
					t.Errorf("the gateway %s does not answer", addr)
				}
			}
		})
	}
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(network(1)), r.start(network(2))
	bridged := lantest.NewMachine(t, "on Docker's bridge")
	r.host.IP("link add docker0 type veth peer name eth0 netns " + bridged.Path() + "\n addr add 10.17.0.1/24 dev docker0\n link set docker0 up")
	bridged.IP("addr add 10.17.0.2/24 dev eth0\n link set eth0 up\n route add default via 10.17.0.1")
	for name, pair := range map[string]struct {
		from *lantest.Machine
		to   string
	}{
		"another network":         {a, "172.31.2.2"},
		"another network, IPv6":   {b, "fd31:1::2"},
		"Docker's bridge":         {a, "10.17.0.2"},
		"… and from there":        {bridged, "172.31.1.2"},
		"another's gateway":       {a, "172.31.2.1"},
		"the host's own address":  {a, "10.9.0.1"},
		"another's gateway, IPv6": {b, "fd31:1::1"},
	} {
		if pings(pair.from, pair.to) {
			t.Errorf("%s is reached", name)
		}
	}
	if !pings(r.host, "10.17.0.2") || !pings(a, "10.9.0.9") {
		t.Error("what is to work does not")
	}
	a.IP("addr add 172.31.2.7/32 dev lo")
	if _, err := a.Command("ping", "-n", "-c", "1", "-W", "1", "-I", "172.31.2.7", "10.9.0.9"); err == nil {
		t.Error("a sender of another network gets an answer")
	}
	r.host.Script(`iptables-nft -t nat -A PREROUTING -d 10.9.0.1 -p tcp --dport 8080 -j DNAT --to 10.17.0.2:80
		iptables-nft -I DOCKER-BRIDGE -o docker0 -d 10.17.0.2 -p tcp --dport 80 -j ACCEPT`)
	if _, ok := connects(t, a, bridged, "10.9.0.1:8080"); !ok {
		t.Error("a port that the host publishes is not reached")
	}
}

// TestRestart has the kernel unchanged, and nothing counted, by a second process.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.start(network(1))
	before := r.text()
	r.restart()
	if _, ok := r.gateways.Admit(network(1)); !ok {
		t.Errorf("what is here is not admitted: %v", r.board.Faults())
	}
	r.ensure(network(1))
	if diff := cmp.Diff(before, r.text()); diff != "" {
		t.Errorf("a restart changed something (-before +after):\n%s", diff)
	}
	if repaired := r.ensure(network(1)); repaired != 0 || !pings(a, "10.9.0.9") {
		t.Errorf("%d repaired", repaired)
	}
}

func TestDrift(t *testing.T) {
	one := network(1)
	link := LinkName(one)
	for name, script := range map[string]string{
		"address":        "ip addr del 172.31.1.1/24 dev " + link,
		"IPv6 address":   "ip addr del fd31:1::1/64 dev " + link,
		"all addresses":  "ip addr flush dev " + link,
		"down":           "ip link set " + link + " down",
		"MAC":            "ip link set " + link + " address 02:00:00:00:00:09",
		"ruleset":        "nft flush ruleset",
		"table":          "nft delete table ip causeway-gateway-vxlan",
		"chain":          "nft flush chain ip6 causeway-gateway-vxlan input",
		"element":        "nft delete element ip causeway-gateway-vxlan masqueraded { 172.31.1.0/24 }",
		"iptables -F":    "iptables-nft -F FORWARD",
		"one rule of it": "iptables-nft -D FORWARD 2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			a := r.start(one)
			before := r.text()
			ctx, cancel := context.WithCancel(t.Context())
			drifted, done := make(chan string, 100), make(chan error, 1)
			go func() { done <- r.gateways.Watch(ctx, func(id string) { drifted <- id }) }()
			r.host.Script(script)
			select {
			case id := <-drifted:
				if id != one.ID {
					t.Errorf("network %q has drifted", id)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("not heard")
			}
			if r.ensure(one) == 0 {
				t.Error("nothing is counted as repaired")
			}
			if diff := cmp.Diff(before, r.text()); diff != "" && !strings.Contains(script, "flush ruleset") && !strings.Contains(script, "-F") {
				t.Errorf("not as before (-before +after):\n%s", diff)
			}
			await.Within(t, 5*time.Second, "the way out is back", func() error {
				if !pings(a, "10.9.0.9") || !pings(a, "fd09::9") {
					return errors.New(r.text())
				}
				return nil
			})
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}

func TestConflict(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host.IP("route add 0.0.0.0/1 via 10.9.0.9\n -6 route add 2000::/3 via fd09::9") // defaults in parts
	r.start(network(1))
	r.host.IP("route add 172.31.2.128/25 via 10.9.0.9")
	same := network(1)
	same.ID, same.Name = "another", "shop"
	for name, network := range map[string]fabric.Network{"route": network(2), "network": same} {
		t.Run(name, func(t *testing.T) {
			if _, ok := r.gateways.Admit(network); ok {
				t.Error("admitted")
			}
		})
	}
	var texts []string
	for _, fault := range r.board.Faults() {
		texts = append(texts, fault.Text)
	}
	for _, want := range []string{
		"network shop has no gateway of its own on this host, and its containers take Docker's (docker_gwbridge): its subnet 172.31.1.0/24 overlaps a route of this host: 172.31.1.0/24 on " + LinkName(network(1)),
		"its subnet 172.31.2.0/24 overlaps a route of this host: 172.31.2.128/25 on eth0 by 10.9.0.9",
	} {
		if !strings.Contains(strings.Join(texts, "\n"), want) {
			t.Errorf("no fault says %q: %q", want, texts)
		}
	}
	r.host.IP("route del 172.31.2.128/25")
	r.start(network(2))
	if faults := r.board.Faults(); len(faults) != 1 {
		t.Errorf("faults: %v", faults)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	none := r.text()
	r.host.IP("link add cwgv-0000000000 type veth peer name other")
	one, two := network(1), network(2)
	a := r.start(one)
	before := r.text()
	r.start(two)
	r.must(r.gateways.Prune(t.Context(), []fabric.Network{one}))
	if diff := cmp.Diff(before, r.text()); diff != "" {
		t.Errorf("something is left of the second (-before +after):\n%s", diff)
	}
	if !pings(a, "10.9.0.9") || len(r.gateways.Up(one.ID)) != 2 || len(r.gateways.Up(two.ID)) != 0 {
		t.Error("the first does not work any more")
	}
	r.restart() // one that has made nothing itself must know it all the same
	r.must(r.gateways.Prune(t.Context(), nil))
	r.host.IP("link del cwgv-0000000000") // another's
	if diff := cmp.Diff(none, r.text()); diff != "" {
		t.Errorf("something is left (-before +after):\n%s", diff)
	}
}

func TestOf(t *testing.T) {
	for name, change := range map[string]func(*fabric.Network){
		"internal":                func(n *fabric.Network) { n.Internal = true },
		"Docker's gateway":        func(n *fabric.Network) { n.DockerGateway = true },
		"no gateway in its pools": func(n *fabric.Network) { n.Subnets = []fabric.Subnet{{Prefix: n.Subnets[0].Prefix}} },
	} {
		n := network(1)
		change(&n)
		if g, ok := Of(n); ok {
			t.Errorf("%s: %+v", name, g)
		}
	}
	if g, ok := Of(network(1)); !ok || len(g.Link) > 15 || fmt.Sprint(g.Addrs) != "[172.31.1.1/24 fd31:1::1/64]" {
		t.Errorf("%+v", g)
	}
}
