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
	c := up(t, lab.Options{Hosts: 3})
	c.options, c.overhead = []string{"mode=routed"}, 0
	c.runAll(t, "ping and TCP between hosts", "internal", "dual stack", "published port and way out", "connect and disconnect",
		"shared sandbox", "from none onto the network", "restart and recreate", "MTU", "plugin restarted under traffic")
	t.Run("routes", func(t *testing.T) { routes(c.sub(t)) })
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
