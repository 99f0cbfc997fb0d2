package test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestIdentity renames a host, and empties the store under running containers: a
// host's place in the cluster hangs on neither its name nor what answers at an address.
func TestIdentity(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Store: lab.StoreEtcd})
	c.network("known", "--subnet=10.61.0.0/24")
	first, second := c.host(1).run("known1", "--net=known"), c.host(2).run("known2", "--net=known")
	first.pings(second.addr("known"))
	for _, test := range []struct {
		name string
		run  func(c *cluster, first, second container)
	}{
		{"renamed host", renamedHost},
		{"stop while the store is gone", stopWithoutStore},
		{"emptied store", emptiedStore},
		{"reset", resetStore},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(c.sub(t), first, second) }) {
			return // the next begins where it ends
		}
	}
}

// restartWith restarts causeway on host n with more arguments.
func (c *cluster) restartWith(n int, extra ...string) {
	c.Helper()
	daemon, ok := c.host(n).Causeway.(*lab.Daemon)
	if !ok {
		c.Skip("a managed plugin has its settings from docker plugin set")
	}
	daemon.Extra = extra
	if err := daemon.Restart(c.Context()); err != nil {
		c.Fatal(err)
	}
}

func renamedHost(c *cluster, first, second container) {
	stop := c.steadyFrom(first, second.addr("known"))
	c.restartWith(2, "--host-name", "web")
	eventually(c.T, "the new name is shown", func() error { return c.host(1).shows("web", "hosts") })
	c.host(2).run("known3", "--net=known").pings(first.addr("known"))
	stop()
	if out, err := c.host(1).try("causeway", "hosts"); err != nil || strings.Contains(out, "h2") {
		c.Errorf("%v\n%s", err, out)
	}
	eventually(c.T, "there are no troubles", func() error { return c.host(2).shows("no troubles", "status") })
}

// stopWithoutStore starts causeway while etcd is gone, and stops it again.
func stopWithoutStore(c *cluster, first, second container) {
	stop := c.steadyFrom(first, second.addr("known"))
	if err := c.lab.Etcd.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.restartWith(1)
	eventually(c.T, "the store is missed", func() error { return c.host(1).shows("unavailable", "status") })
	begun := time.Now()
	if err := c.host(1).Causeway.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		c.Errorf("SIGTERM took %v", took)
	}
	for _, start := range []func() error{
		func() error { return c.lab.Etcd.Start(c.Context()) },
		func() error { return c.host(1).Causeway.Start(c.Context()) },
	} {
		if err := start(); err != nil {
			c.Fatal(err)
		}
	}
	eventually(c.T, "there are no troubles", func() error { return c.host(1).shows("no troubles", "status") })
	stop()
}

// emptiedStore has etcd come back without its data, and then all restart.
func emptiedStore(c *cluster, first, second container) {
	stop := c.steadyFrom(first, second.addr("known"))
	if err := c.lab.Etcd.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	if err := os.RemoveAll(c.machine("store").Path("/var/lib/etcd")); err != nil {
		c.Fatal(err)
	}
	if err := c.lab.Etcd.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	const says = "is not the one this host belongs to: it is empty"
	eventually(c.T, "the running one says it", func() error { return c.host(1).shows(says, "status") })
	c.restartWith(1)
	c.restartWith(2, "--host-name", "web")
	for n := range 2 {
		eventually(c.T, "the restarted one says it", func() error { return c.host(n+1).shows(says, "status") })
	}
	if out, err := c.host(1).try("docker", "run", "--rm", "--net=known", "busybox", "true"); err == nil || !strings.Contains(out+err.Error(), "--store-reset") {
		c.Errorf("docker run says %v\n%s", err, out)
	}
	if keys := c.keys(); keys != "" {
		c.Errorf("the empty store has %s", keys)
	}
	stop()
}

// TestLostDataDir loses the whole --data-dir of the host whose embedded store is
// the cluster's, under running containers.
func TestLostDataDir(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	c.network("adrift", "--subnet=10.62.0.0/24")
	first, second := c.host(1).run("adrift1", "--net=adrift"), c.host(2).run("adrift2", "--net=adrift")
	first.pings(second.addr("adrift"))
	daemon, ok := c.host(1).Causeway.(*lab.Daemon)
	if !ok {
		t.Skip("the data-dir of a managed plugin is the engine's")
	}
	stop := c.steadyFrom(first, second.addr("adrift"))
	if err := daemon.Stop(c.Context()); err != nil {
		t.Fatal(err)
	}
	data := c.host(1).Path("/var/lib/causeway")
	if err := os.Rename(data, data+".lost"); err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(c.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the host of the store says it", func() error {
		return c.host(1).shows("it has no record of this host, which runs containers of a cluster", "status")
	})
	eventually(t, "the other host says it", func() error {
		return c.host(2).shows("certificate signed by unknown authority: it is another cluster's store", "status")
	})
	if err := daemon.Stop(c.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(data), os.Rename(data+".lost", data), daemon.Start(c.Context())); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		eventually(t, "there are no troubles", func() error { return c.host(n+1).shows("no troubles", "status") })
	}
	stop()
}

// keys is etcd's answer to how many keys there are; empty for none.
func (c *cluster) keys() string {
	c.Helper()
	out, err := c.host(1).try("busybox", "wget", "-q", "-O", "-", "--post-data", `{"key":"AA==","range_end":"AA==","count_only":true}`,
		"http://10.99.0.253:2379/v3/kv/range")
	if err != nil {
		c.Fatal(err)
	}
	_, count, _ := strings.Cut(out, `"count":`)
	return count
}

// resetStore has both hosts put back what they have.
func resetStore(c *cluster, first, second container) {
	c.restartWith(1, "--store-reset")
	eventually(c.T, "the first host's container is back", func() error { return c.host(1).shows(first.addr("known"), "endpoints") })
	c.restartWith(2, "--host-name", "web", "--store-reset")
	eventually(c.T, "both containers are back", func() error {
		return errors.Join(c.host(1).shows(second.addr("known"), "endpoints"), c.host(1).shows("known2", "endpoints"))
	})
	eventually(c.T, "they reach each other", func() error {
		_, err := first.exec("ping", "-c", "1", "-W", "1", second.addr("known"))
		return err
	})
	eventually(c.T, "the flag is told to be removed", func() error { return c.host(1).shows("--store-reset is set", "status") })
	c.restartWith(1)
	c.restartWith(2, "--host-name", "web")
	for n := range 2 {
		h := c.host(n + 1)
		eventually(c.T, "there are no troubles", func() error { return h.shows("no troubles", "status") })
		late := h.run(fmt.Sprint("late", n), "--net=known")
		late.pings(first.addr("known"))
		late.pings(second.addr("known"))
	}
	if out := c.host(1).docker("network", "inspect", "--format", "{{len .Containers}}", "known"); out != "2" {
		c.Errorf("the engine has %s containers on the network", out)
	}
}
