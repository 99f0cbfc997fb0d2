package test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestComeback releases a host that has died, and one that is cut off from the
// cluster for a while. Both come back, with a network that they made and one that
// their mirror did.
func TestComeback(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Store: lab.StoreEtcd}) // a closed cluster lets a released host in by a new token alone
	c.network("theirs", "--subnet=10.42.0.0/24")
	c.host(2).docker("network", "create", "-d", "causeway", "--subnet=10.43.0.0/24", "own")
	c.Cleanup(func() { c.removeNetwork("own") })
	c.everywhere("own")
	for _, test := range []struct {
		name       string
		lose, back func(*cluster)
	}{
		{"died", func(c *cluster) { c.loseHost(2) }, func(c *cluster) {
			if err := c.host(2).Causeway.Start(c.Context()); err != nil {
				c.Fatal(err)
			}
		}},
		{"cut off", func(c *cluster) {
			c.signal(2, syscall.SIGSTOP)
			c.gone(2)
		}, func(c *cluster) { c.signal(2, syscall.SIGCONT) }},
	} {
		t.Run(test.name, func(t *testing.T) { comesBack(c.sub(t), test.lose, test.back) })
	}
}

func comesBack(c *cluster, lose, back func(*cluster)) {
	near, far := c.host(1).run("near", "--net=theirs"), c.host(2).run("far", "--net=theirs")
	nearOwn, farOwn := c.host(1).run("near-own", "--net=own"), c.host(2).run("far-own", "--net=own")
	far.pings(near.addr("theirs"))
	lose(c)
	if out, err := c.host(1).try("causeway", "hosts", "rm", "h2"); err != nil || !strings.Contains(out, "with 2 endpoints") {
		c.Fatal(out, err)
	}
	back(c)
	for network, name := range map[string]string{"theirs": "far", "own": "far-own"} {
		want := fmt.Sprintf("network %s: these containers lost their place in the cluster, restart them: %s", network, name)
		eventually(c.T, name+" is named", func() error { return c.host(2).shows(want, "status") })
	}
	c.host(2).docker("restart", "-t", "0", "far", "far-own")
	far.pings(near.addr("theirs"))
	near.pings(far.addr("theirs"))
	nearOwn.pings(farOwn.addr("own"))
	c.host(2).docker("run", "--rm", "--net=own", "busybox", "true")
	eventually(c.T, "there are no troubles", func() error { return c.host(2).shows("no troubles", "status") })
}

// signal goes to the causeway of a host.
func (c *cluster) signal(n int, signal syscall.Signal) {
	c.Helper()
	daemon, ok := c.host(n).Causeway.(*lab.Daemon)
	if !ok {
		c.Skip("Docker ends a managed plugin that does not answer")
	}
	if err := syscall.Kill(daemon.PID(), signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		c.Fatal(err)
	}
}
