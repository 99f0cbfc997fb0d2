package test

import (
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// physical is the lab's own network as docker network create takes it: its
// router is its gateway, and the containers have a part of its addresses.
func physical() []string {
	return []string{
		"--subnet=10.99.0.0/24", "--gateway=10.99.0.254", "--ip-range=10.99.0.128/26",
		"--ipv6", "--subnet=fd99::/64", "--gateway=fd99::254", "--ip-range=fd99::c:0/112",
	}
}

// TestUnderlay takes the NIC that carries everything, and gives it back.
func TestUnderlay(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	c.network("tunnelled", "-o", "gateway=docker", "--subnet=192.168.80.0/24")
	c.host(1).docker("run", "--rm", "--net=tunnelled", "busybox", "true") // Docker makes its docker_gwbridge
	c.options, c.overhead = []string{"mode=underlay", "parent=eth0"}, 0
	before := []string{c.host(1).network(), c.host(2).network()}
	firewall := c.host(1).iptables()
	if !strings.Contains(firewall, "-P FORWARD DROP") {
		t.Fatalf("Docker's policy is not in force:\n%s", firewall)
	}
	if out, err := c.host(1).try("cat", "/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil || out != "1" {
		t.Fatalf("the firewall does not see bridged frames: %s, %v", out, err)
	}
	session := c.session(c.host(1).PID(), "10.99.0.1", c.machine("plain").PID())
	t.Run("a firewall that names the NIC", func(t *testing.T) { underlayFirewall(c.sub(t)) })
	t.Run("the move", func(t *testing.T) { underlayMove(c.sub(t)) })
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"on the network", onTheNetwork},
		{"taken addresses", takenAddresses},
		{"a new holder", newHolder},
		{"refusals", underlayRefusals},
		{"killed and restarted", underlayKilled},
		{"the NIC taken out of its bridge", underlayTakenOut},
		{"reboot", underlayReboot},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
	c.runAll(t, "MTU", "broadcast and multicast", "connect and disconnect", "dual stack",
		"ping and TCP between hosts", "causeway restarted under traffic", "restart and recreate", "trace")
	t.Run("sends as itself", func(t *testing.T) { sendsAsItself(c.sub(t)) })
	if diff := lines(c.host(1).iptables(), firewall); diff != "" {
		t.Logf("what is ours in the firewall:\n%s", diff)
		if strings.Contains(diff, "-P") || !strings.Contains(diff, "causeway") {
			t.Error("something of others was changed")
		}
	}
	c.host(2).docker("network", "rm", "phys")
	c.nowhere("phys")
	for n, want := range before {
		h := c.host(n + 1)
		eventually(t, h.Name()+" is as it was", func() error {
			if got := h.network(); got != want {
				return fmt.Errorf("it has\n%s\nand had\n%s", got, want)
			}
			return nil
		})
	}
	if got := c.host(1).iptables(); got != firewall {
		t.Errorf("the firewall is\n%s\nand was\n%s", got, firewall)
	}
	if err := session.close(); err != nil {
		t.Errorf("the session from plain to h1: %v", err)
	}
}

// network is the host's addresses and routes as text, but for what counts time
// and for Docker's own devices.
func (h *host) network() string {
	h.c.Helper()
	out, err := h.try("sh", "-c", "ip -o addr show dev eth0; ip -o link show dev eth0; ip route; ip -6 route")
	if err != nil {
		h.c.Fatal(err)
	}
	out = regexp.MustCompile(`(?m)^.*dev docker.*\n?`).ReplaceAllString(out, "")
	return regexp.MustCompile(` (expires \d+sec|linkdown|tentative)`).ReplaceAllString(out, "")
}

func (h *host) iptables() string {
	h.c.Helper()
	out, err := h.try("sh", "-c", "iptables -S; iptables -t nat -S")
	if err != nil {
		h.c.Fatal(err)
	}
	return out
}

// lines gives those that only one of both texts has.
func lines(a, b string) string {
	var only []string
	for _, pair := range [][2]string{{a, b}, {b, a}} {
		others := strings.Split(pair[1], "\n")
		for line := range strings.SplitSeq(pair[0], "\n") {
			if !slices.Contains(others, line) {
				only = append(only, line)
			}
		}
	}
	return strings.Join(only, "\n")
}

// underlayMove makes the network while a vxlan network runs over the same NIC.
func underlayMove(c *cluster) {
	from, to := c.host(1).run("tunnelled1", "--net=tunnelled"), c.host(2).run("tunnelled2", "--net=tunnelled")
	from.pings(to.addr("tunnelled"))
	addr := to.addr("tunnelled")
	var wait sync.WaitGroup
	var out string
	wait.Go(func() { out, _ = from.exec("ping", "-c", "40", "-i", "0.1", "-W", "2", addr) })
	argv := []string{"network", "create", "-d", "causeway", "-o", "mode=underlay", "-o", "parent=eth0"}
	c.host(1).docker(append(append(argv, physical()...), "phys")...)
	c.everywhere("phys")
	for n := range c.lab.Hosts() {
		h := c.host(n + 1)
		eventually(c.T, "the NIC of "+h.Name()+" is in the bridge", func() error {
			_, err := h.try("sh", "-c", "ip link show master cw-eth0 | grep eth0 && ip addr show dev cw-eth0 | grep 10.99.0.")
			return err
		})
	}
	wait.Wait()
	c.Log("vxlan across both moves: ", regexp.MustCompile(`\d+ packets.*`).FindString(out))
	if !regexp.MustCompile(` [0-5]% packet loss`).MatchString(out) {
		c.Errorf("too much is lost in the move:\n%s", out)
	}
}

// underlayFirewall lets the administrator in through eth0 by name, and nobody
// else who was not asked: moved, the host could not be reached again.
func underlayFirewall(c *cluster) {
	h := c.host(1)
	var listener net.Listener
	err := inside(h.PID(), func() (err error) {
		listener, err = net.Listen("tcp", "10.99.0.1:22")
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer listener.Close()
	change := func(verb, policy string) {
		if out, err := h.try("sh", "-ec", `for rule in "-m conntrack --ctstate ESTABLISHED,RELATED" "-i lo" "-i eth0"; do
			iptables `+verb+` INPUT $rule -j ACCEPT; done; iptables -P INPUT `+policy); err != nil {
			c.Fatal(err, out)
		}
	}
	change("-A", "DROP")
	defer change("-D", "ACCEPT")
	before := h.network()
	_, err = h.try(append(append([]string{"docker", "network", "create", "-d", "causeway", "-o", "mode=underlay", "-o", "parent=eth0"}, physical()...), "refused")...)
	for _, want := range []string{"TCP 10.99.0.1:22 (to new connections)", "no longer answered, so that it was moved back", "force=true"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			c.Errorf("%v, want %s", err, want)
		}
	}
	c.Log(err)
	if got := h.network(); got != before {
		c.Errorf("the host has\n%s\nand had\n%s", got, before)
	}
}

// underlayTakenOut has another program take the NIC out of its bridge.
func underlayTakenOut(c *cluster) {
	h := c.host(1)
	if _, err := h.try("ip", "link", "set", "eth0", "nomaster"); err != nil {
		c.Fatal(err)
	}
	begun := time.Now()
	eventually(c.T, "the NIC is in its bridge again", func() error {
		_, err := h.try("sh", "-c", "ip link show master cw-eth0 | grep eth0")
		return err
	})
	c.Logf("put back within %v", time.Since(begun))
	if out, err := c.machine("plain").Run(c.Context(), "ping", "-c", "1", "-W", "2", "10.99.0.1"); err != nil {
		c.Errorf("plain does not reach h1: %v\n%s", err, out)
	}
}

// onTheNetwork has containers, plain, the router and the hosts reach each other.
func onTheNetwork(c *cluster) {
	near, far := c.host(1).run("near", "--net=phys"), c.host(2).run("far", "--net=phys")
	for _, one := range []container{near, far} {
		for _, addr := range []string{"10.99.0.200", "fd99::200", "10.99.0.254", "10.99.0.1", "10.99.0.2", "203.0.113.1", near.addr("phys"), far.addr6("phys")} {
			one.pings(addr)
		}
		for _, machine := range []string{"plain", "router", "h1", "h2", "outside"} {
			if machine == "outside" {
				continue // it has no route to a private network
			}
			for _, addr := range []string{one.addr("phys"), one.addr6("phys")} {
				if out, err := c.machine(machine).Run(c.Context(), "ping", "-c", "2", "-i", "0.2", "-W", "2", addr); err != nil {
					c.Errorf("%s cannot ping %s: %v\n%s", machine, addr, err, out)
				}
			}
		}
		if routes := one.must("ip", "route"); !strings.Contains(routes, "default via 10.99.0.254") {
			c.Errorf("%s has the routes\n%s", one.name, routes)
		}
		c.seenUnmasked(one)
	}
	near.sendsTCP(far, far.addr("phys"))
	far.sendsTCP(near, near.addr6("phys"))
}

// seenUnmasked connects to plain, which must see the container's own address.
func (c *cluster) seenUnmasked(from container) {
	c.Helper()
	var listener net.Listener
	err := inside(c.machine("plain").PID(), func() (err error) {
		listener, err = net.Listen("tcp", "10.99.0.200:0")
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer listener.Close()
	conn, err := c.dial(from, "tcp", listener.Addr().String())
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close()
	peer, err := listener.Accept()
	if err != nil {
		c.Fatal(err)
	}
	defer peer.Close()
	if got, _, _ := net.SplitHostPort(peer.RemoteAddr().String()); got != from.addr("phys") {
		c.Errorf("plain sees %s as %s", from.addr("phys"), got)
	}
}

// takenAddresses has a machine without Docker on addresses of the containers' range.
func takenAddresses(c *cluster) {
	for _, verb := range []string{"add", "del"} {
		for _, addr := range []string{"10.99.0.131/24", "10.99.0.191/24", "10.99.0.190/24"} {
			do := func() {
				if _, err := c.machine("plain").Run(c.Context(), "ip", "addr", verb, addr, "dev", "eth0"); err != nil {
					c.Error(err)
				}
			}
			if verb == "add" {
				do()
			} else {
				defer do()
			}
		}
	}
	_, err := c.host(1).try("docker", "run", "--rm", "--net=phys", "--ip=10.99.0.131", "busybox", "true")
	if err == nil || !strings.Contains(err.Error(), "address 10.99.0.131 on network phys is in use by the machine") {
		c.Errorf("an address that plain has: %v", err)
	}
	c.Log(err)
	// The engine of h2 takes what causeway gives, which has asked the wire.
	mirrored := c.host(2).run("avoids", "--net=phys")
	if addr := mirrored.addr("phys"); addr == "10.99.0.191" || addr == "10.99.0.190" {
		c.Errorf("%s was given, which plain has", addr)
	} else {
		c.Logf("given instead: %s", addr)
	}
	mirrored.pings("10.99.0.200")
}

// newHolder moves an address to another host and another MAC, while plain has
// the old one in its cache.
func newHolder(c *cluster) {
	pings := func() {
		c.Helper()
		if out, err := c.machine("plain").Run(c.Context(), "ping", "-c", "3", "-i", "0.2", "-W", "1", "10.99.0.150"); err != nil || !strings.Contains(out, " 0% packet loss") {
			c.Errorf("plain does not reach 10.99.0.150 at once: %v\n%s", err, out)
		}
	}
	c.host(1).run("holder1", "--net=phys", "--ip=10.99.0.150", "--mac-address=02:00:00:00:01:50").must("ping", "-c", "1", "-W", "2", "10.99.0.200")
	pings()
	c.host(1).docker("rm", "-f", "holder1")
	c.host(2).run("holder2", "--net=phys", "--ip=10.99.0.150", "--mac-address=02:00:00:00:02:50")
	eventually(c.T, "plain hears of the new holder", func() error {
		out, err := c.machine("plain").Run(c.Context(), "ip", "neigh", "show", "10.99.0.150")
		if err == nil && !strings.Contains(out, "02:00:00:00:02:50") {
			err = fmt.Errorf("it has %s", out)
		}
		return err
	})
	pings()
}

func underlayRefusals(c *cluster) {
	create := func(args ...string) []string {
		return append([]string{"docker", "network", "create", "-d", "causeway", "-o", "mode=underlay", "--subnet=10.98.0.0/24"}, append(args, "refused")...)
	}
	for _, test := range []struct {
		command []string
		want    string
	}{
		{[]string{"docker", "run", "--rm", "--net=phys", "-p", "8080:80", "busybox", "true"}, "no port of it can be published"},
		{create("-o", "parent=lo"), "loopback"},
		{create("-o", "parent=eth7"), "eth7"},
		{create("-o", "parent=eth0", "-o", "bridge=other0"), "cw-eth0"},
		{create(), "parent"},
	} {
		_, err := c.host(1).try(test.command...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			c.Errorf("%q: %v, want %s", test.command, err, test.want)
		}
		c.Log(err)
		if c.host(1).has("refused") {
			c.Fatal("the network is there")
		}
	}
}

// underlayKilled kills causeway; plain goes on to reach the container.
func underlayKilled(c *cluster) {
	steady := c.host(1).run("steady", "--net=phys")
	addr := steady.addr("phys")
	steady.pings("10.99.0.200")
	plain := c.machine("plain")
	stop := c.steadily(plain, plain.PID(), addr)
	if err := c.host(1).Causeway.Kill(c.Context()); err != nil {
		c.Error(err)
	}
	if err := c.host(1).Causeway.Start(c.Context()); err != nil {
		c.Error(err)
	}
	c.host(1).run("after", "--net=phys").pings(addr)
	stop()
}

// underlayReboot has h2's devices vanish and its NIC come back as at boot.
func underlayReboot(c *cluster) {
	h := c.host(2)
	lasting := h.run("lasting", "--net=phys", "--restart=always")
	for _, service := range []lab.Service{h.Docker, h.Causeway} {
		if err := service.Stop(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
	_, err := h.try("sh", "-ec", `
		for link in cw-eth0 docker_gwbridge docker0; do ip link del $link; done
		ip link set eth0 down; ip link set eth0 up
		ip addr add 10.99.0.2/24 dev eth0; ip addr add fd99::2/64 dev eth0 nodad; ip link set eth0 up
		ip route replace default via 10.99.0.254; ip route replace default via fd99::254`)
	if err != nil {
		c.Fatal(err)
	}
	for _, service := range []lab.Service{h.Causeway, h.Docker} {
		if err := service.Start(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
	eventually(c.T, "lasting runs again, and its name is known", func() error { return h.shows("lasting", "endpoints", "phys") })
	if out, err := c.machine("plain").Run(c.Context(), "ping", "-c", "1", "-W", "5", lasting.addr("phys")); err != nil {
		c.Errorf("plain does not reach it: %v\n%s", err, out)
	}
	if out, err := h.try("ip", "addr", "show", "dev", "cw-eth0"); err != nil || !strings.Contains(out, "10.99.0.2/24") {
		c.Errorf("the bridge is without the host's address: %v\n%s", err, out)
	}
}
