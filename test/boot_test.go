package test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestBoot starts a host before its store, as the managed plugin and as the
// binary that the unit starts before Docker.
func TestBoot(t *testing.T) {
	for name, managed := range map[string]bool{"plugin": true, "binary": false} {
		t.Run(name, func(t *testing.T) {
			c := up(t, lab.Options{Hosts: 2, Plugin: managed, Store: lab.StoreEtcd})
			c.network("early", "--subnet=192.168.7.0/24")
			other := c.host(1).run("early1", "--net=early")
			h := c.host(2)
			always := h.run("early2", "--net=early", "--restart=always")
			h.run("early3", "--net=early") // its endpoint is left behind
			begun := c.powerCut(h)
			eventually(t, "the container is back by itself", func() error {
				_, err := always.exec("ping", "-c", "1", "-W", "1", other.addr("early"))
				return err
			})
			t.Logf("its container is back %v after the start", time.Since(begun).Round(time.Millisecond))
			if managed {
				if out := h.docker("plugin", "ls", "--format={{.Enabled}}"); out != "true" {
					t.Errorf("plugin enabled: %s", out)
				}
			}
			h.docker("run", "--rm", "--net=early", "busybox", "ping", "-c", "1", "-W", "3", other.addr("early"))
		})
	}
}

// powerCut ends the host's services and the store as one, and starts them again,
// the store last: when the plugin answers the engine already.
func (c *cluster) powerCut(h *host) (begun time.Time) {
	c.Helper()
	pids := h.docker("ps", "--quiet")
	pids = h.docker(append([]string{"inspect", "--format={{.State.Pid}}"}, strings.Fields(pids)...)...)
	for _, service := range []lab.Service{h.Docker, h.Causeway, c.lab.Etcd} {
		if err := service.Kill(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
	if _, err := h.try("sh", "-c", "kill -9 "+strings.ReplaceAll(pids, "\n", " ")); err != nil {
		c.Fatal(err)
	}
	begun = time.Now()
	var wait sync.WaitGroup
	wait.Go(func() {
		for _, service := range []lab.Service{h.Causeway, h.Docker} {
			if err := service.Start(c.Context()); err != nil {
				c.Error(err)
			}
		}
		c.Logf("Docker answers after %v", time.Since(begun).Round(time.Millisecond))
	})
	eventually(c.T, "the plugin is waited for", func() error {
		conn, err := net.Dial("unix", h.Path("/run/docker/plugins/causeway.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err := c.lab.Etcd.Start(c.Context()); err != nil {
		c.Fatal(fmt.Errorf("etcd: %w", err))
	}
	wait.Wait()
	return begun
}

// TestLiveRestore has engines come and go under running containers.
func TestLiveRestore(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Plugin: true, DockerArgs: []string{"--live-restore"}})
	c.network("live", "--subnet=192.168.8.0/24")
	c.network("live-routed", "-o", "mode=routed", "--subnet=192.168.10.0/24")
	first, second := c.host(1).run("live1", "--net=live"), c.host(2).run("live2", "--net=live")
	addr := second.addr("live")
	routed := c.host(2).run("live3", "--net=live-routed")
	stops := []func(){
		c.steadyFrom(first, addr), c.steadyFrom(second, outside4), c.steadyFrom(routed, outside4),
		c.steadyFrom(c.host(1).run("live4", "--net=live-routed"), routed.addr("live-routed")),
	}
	h := c.host(2)
	for _, end := range []func() error{
		func() error { return h.Docker.Stop(c.Context()) },
		func() error { return h.Docker.Kill(c.Context()) },
	} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := h.Docker.Start(c.Context()); err != nil {
			t.Fatal(err)
		}
		h.docker("run", "--rm", "--net=live", "busybox", "ping", "-c", "1", "-W", "3", first.addr("live"))
	}
	for _, stop := range stops {
		stop()
	}
	if second.addr("live") != addr {
		t.Errorf("the container has %s, and had %s", second.addr("live"), addr)
	}
	c.network("more", "--subnet=192.168.9.0/24")
	h.docker("network", "connect", "more", second.name)
	second.pings(c.host(1).run("more1", "--net=more").addr("more"))
	second.remove(second.name)
	eventually(t, "its endpoints are gone", func() error {
		out, err := h.try("causeway", "endpoints")
		if err == nil && strings.Contains(out, addr+"/") {
			return fmt.Errorf("they are there:\n%s", out)
		}
		return err
	})
}
