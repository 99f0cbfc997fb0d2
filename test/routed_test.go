package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestRouted runs what hosts that exchange no frames can do. Equal subnets, broadcast and
// multicast between hosts, and MACs of other hosts' containers are not among that.
func TestRouted(t *testing.T) {
	c := up(t, lab.Options{Hosts: 3, Far: 1, WireGuard: true})
	c.options, c.overhead = []string{"mode=routed"}, 0
	c.runAll(t, "ping and TCP between hosts", "internal", "dual stack", "published port and way out", "connect and disconnect",
		"shared sandbox", "from none onto the network", "restart and recreate", "MTU", "causeway restarted under traffic", "trace")
	t.Run("key rotation", func(t *testing.T) { keyRotation(c.sub(t), func(func(*cluster)) {}) })
	t.Run("encryption", func(t *testing.T) { encryption(c.sub(t)) })
	t.Run("routes", func(t *testing.T) { routes(c.sub(t)) })
	t.Run("sends as itself", func(t *testing.T) { sendsAsItself(c.sub(t)) })
	t.Run("two LANs", func(t *testing.T) { twoLANs(c.sub(t)) })
	t.Run("forty at once", func(t *testing.T) { fortyAtOnce(c.sub(t)) })
	t.Run("blocks", func(t *testing.T) { blocks(c.sub(t)) }) // the last: it removes h2
}

// routes has a container reach others by the host's routes, which come back when they are
// flushed and go with the containers.
func routes(c *cluster) {
	c.network("ways", "--subnet=10.77.0.0/24")
	first := c.host(1).run("ways1", "--net=ways", "--ip=10.77.0.10")
	c.host(2).run("ways2", "--net=ways", "--ip=10.77.0.200")
	first.pings("10.77.0.200")
	ours := func() string {
		out, err := c.host(1).try("ip", "route", "show", "proto", "67")
		if err != nil {
			c.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	before := ours()
	if !strings.Contains(before, "via 10.99.0.2 dev eth0") {
		c.Errorf("routes of h1 are:\n%s", before)
	}
	if _, err := c.host(1).try("ip", "route", "flush", "proto", "67"); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "the routes are back", func() error { return differ(ours(), before) })
	first.pings("10.77.0.200")
	if _, err := c.host(1).try("ip", "route", "add", "10.88.0.0/16", "via", "10.99.0.254"); err != nil {
		c.Fatal(err)
	}
	const overlap = "its subnet 10.88.1.0/24 overlaps a route of this host: 10.88.0.0/16 on eth0 by 10.99.0.254"
	_, err := c.host(1).try("docker", "network", "create", "-d", "causeway", "-o", "mode=routed", "--subnet=10.88.1.0/24", "over")
	if err == nil || !strings.Contains(err.Error(), overlap) {
		c.Errorf("a subnet that the host routes elsewhere is answered with: %v", err)
	}
	c.host(1).remove("ways1")
	eventually(c.T, "no route is left", func() error { return differ(ours(), "") })
}

func differ(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// twoLANs has containers of hosts on one LAN and beyond a router: each pair of hosts has
// its own way.
func twoLANs(c *cluster) {
	c.network("lans", "--ipam-driver=causeway", "--ipv6", "--subnet=10.79.0.0/20", "--subnet=fd79::/112")
	var all []container
	for n := range c.lab.Hosts() {
		all = append(all, c.host(n+1).run(fmt.Sprint("lans", n+1), "--net=lans"))
	}
	for _, from := range all {
		for _, to := range all {
			from.pings(to.addr("lans"))
			from.pings(to.addr6("lans"))
		}
	}
	all[0].sendsTCP(all[2], all[2].addr("lans"))
	for to, want := range map[container]string{all[1]: "dev eth0", all[2]: "dev cw-routed"} {
		if out, err := c.host(1).try("ip", "route", "get", to.addr("lans")); err != nil || !strings.Contains(out, want) {
			c.Errorf("the way to %s lacks %q: %v\n%s", to.name, want, err, out)
		}
	}
	for _, addr := range []string{all[2].addr("lans"), all[1].addr6("lans")} {
		c.sound(c.traces(1, "lans1", addr), 2)
	}
	c.network("near", "--ipam-driver=causeway", "-o", "via=direct", "--subnet=10.80.0.0/20")
	one, two, far := c.host(1).run("near1", "--net=near"), c.host(2).run("near2", "--net=near"), c.host(3).run("near3", "--net=near")
	one.pings(two.addr("near"))
	one.misses(far.addr("near"))
	if err := c.host(1).shows("-o via=direct cannot reach its containers", "status"); err != nil {
		c.Error(err)
	}
}

// blocks are taken, borrowed from when none is left, and free when their host has left.
func blocks(c *cluster) {
	c.network("blocks", "--ipam-driver=causeway", "-o", "block=30", "--subnet=10.78.0.0/29")
	first, second := c.host(1).run("blocks1", "--net=blocks"), c.host(2).run("blocks2", "--net=blocks")
	var guests []container
	for n := range 3 {
		guests = append(guests, c.host(3).run(fmt.Sprint("blocks3", n), "--net=blocks"))
	}
	_, err := c.host(3).try("docker", "run", "--rm", "--net=blocks", "busybox", "true")
	if err == nil || !strings.Contains(err.Error(), "pool 10.78.0.0/29 is full") {
		c.Errorf("a full pool is answered with: %v", err)
	}
	for _, guest := range guests {
		first.pings(guest.addr("blocks"))
		guest.pings(second.addr("blocks"))
		guest.pings(guests[0].addr("blocks"))
	}
	left := second.addr("blocks")
	if err := c.host(2).Docker.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.loseHost(2)
	if _, err := c.host(1).try("causeway", "hosts", "rm", "h2"); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "an address of h2's block is given again", func() error {
		_, err := c.host(3).try("docker", "run", "-d", "--name", "blocks-heir", "--net=blocks", "busybox", "sleep", "3600")
		if err != nil {
			_, _ = c.host(3).try("docker", "rm", "-f", "blocks-heir")
		}
		return err
	})
	heir := container{c.host(3), "blocks-heir"}
	c.Cleanup(func() { heir.remove(heir.name) })
	if addr := heir.addr("blocks"); addr != left {
		c.Errorf("the heir has %s, and h2 had %s", addr, left)
	}
	first.pings(left)
}
