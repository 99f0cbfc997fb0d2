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
	c := up(t, lab.Options{Hosts: 3, Store: lab.StoreEtcd}) // a closed cluster lets a released host in by a new token alone
	c.network("theirs", "--subnet=10.42.0.0/24")
	for n := 2; n <= 3; n++ {
		own := fmt.Sprint("own", n)
		c.host(n).docker("network", "create", "-d", "causeway", fmt.Sprintf("--subnet=10.43.%d.0/24", n), own)
		c.Cleanup(func() { c.removeNetwork(own) })
		c.everywhere(own)
		c.host(1).run("near-"+own, "--net="+own)
		c.host(n).run("far-"+own, "--net="+own)
		c.host(n).run(fmt.Sprint("far", n), "--net=theirs").pings(c.host(1).run(fmt.Sprint("near", n), "--net=theirs").addr("theirs"))
	}
	if err := c.host(2).Causeway.Kill(c.Context()); err != nil {
		t.Fatal(err)
	}
	if !c.host(3).managed() {
		c.signal(3, syscall.SIGSTOP) // now: their leases run out together
	}
	t.Run("died", func(t *testing.T) {
		c := c.sub(t)
		comesBack(c, 2, func() {
			if err := c.host(2).Causeway.Start(c.Context()); err != nil {
				c.Fatal(err)
			}
		})
	})
	t.Run("cut off", func(t *testing.T) {
		c := c.sub(t)
		c.signal(3, syscall.SIGSTOP)
		comesBack(c, 3, func() { c.signal(3, syscall.SIGCONT) })
	})
}

// comesBack releases a host once it is known to be gone, and has it come back.
func comesBack(c *cluster, n int, back func()) {
	h, own := c.host(n), fmt.Sprint("own", n)
	near, far := container{c.host(1), fmt.Sprint("near", n)}, container{h, fmt.Sprint("far", n)}
	nearOwn, farOwn := container{c.host(1), "near-" + own}, container{h, "far-" + own}
	c.gone(n)
	if out, err := c.host(1).try("causeway", "hosts", "rm", h.Name()); err != nil || !strings.Contains(out, "with 2 endpoints") {
		c.Fatal(out, err)
	}
	back()
	for network, name := range map[string]string{"theirs": far.name, own: farOwn.name} {
		want := fmt.Sprintf("network %s: these containers lost their place in the cluster, restart them: %s", network, name)
		eventually(c.T, name+" is named", func() error { return h.shows(want, "status") })
	}
	h.docker("restart", "-t", "0", far.name, farOwn.name)
	far.pings(near.addr("theirs"))
	near.pings(far.addr("theirs"))
	nearOwn.pings(farOwn.addr(own))
	h.docker("run", "--rm", "--net="+own, "busybox", "true")
	eventually(c.T, "there are no troubles", func() error { return h.shows("no troubles", "status") })
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
