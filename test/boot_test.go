package test

import (
	"context"
	"fmt"
	"net"
	"os"
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
	if err := h.die(c.lab.Etcd); err != nil {
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

// die ends the host's services, its containers, and what else is named, as one.
func (h *host) die(also ...lab.Service) error {
	pids, err := h.try("sh", "-c", "docker inspect --format={{.State.Pid}} $(docker ps --quiet) | tr '\\n' ' '")
	if err != nil {
		return err
	}
	for _, service := range append([]lab.Service{h.Docker, h.Causeway}, also...) {
		if err := service.Kill(h.c.Context()); err != nil {
			return err
		}
	}
	_, err = h.try("sh", "-c", "kill -9 "+pids+" 2>/dev/null; true") // one may have ended meanwhile
	return err
}

// TestBootStorm has all hosts lose their power at once, each with a third of 200
// containers that are to run always. make test-faults has it.
func TestBootStorm(t *testing.T) {
	if which := os.Getenv("CAUSEWAY_FAULTS"); which != "all" && which != "storm" {
		t.Skip("200 containers: make test-faults has them; TestQuorum has a few")
	}
	c := up(t, lab.Options{Hosts: 3})
	c.storeHeldBy("h1", "h2", "h3")
	bootStorm(c, 67)
}

// bootStorm has all hosts, the store's among them, lose their power at once, and come back
// together: their containers are on their network again without anybody's help.
func bootStorm(c *cluster, each int) {
	c.network("storm", "--subnet=192.168.92.0/22")
	eachHost := func(do func(*host) error) {
		var wait sync.WaitGroup
		for n := range c.lab.Hosts() {
			wait.Go(func() {
				if err := do(c.host(n + 1)); err != nil {
					c.Error(err)
				}
			})
		}
		wait.Wait()
		if c.Failed() {
			c.FailNow()
		}
	}
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		for n := range c.lab.Hosts() {
			_, _ = c.host(n+1).Run(ctx, "sh", "-c", "docker rm -f $(docker ps -aq --filter name=^storm)")
		}
	})
	eachHost(func(h *host) error {
		_, err := h.try("sh", "-c", fmt.Sprintf("for i in $(seq %d); do docker run -d --restart=always --name storm-$i --net=storm busybox sleep 3600 || exit 1; done", each))
		return err
	})
	eachHost(func(h *host) error { return h.die() })
	begun := time.Now()
	eachHost(func(h *host) error {
		if err := h.Causeway.Start(c.Context()); err != nil {
			return err
		}
		return h.Docker.Start(c.Context())
	})
	var addrs []string
	eventuallyWithin(c.T, 3*time.Minute, "all containers run again", func() error {
		addrs = nil
		for n := range c.lab.Hosts() {
			out, err := c.host(n+1).try("sh", "-c", "docker inspect --format='{{.NetworkSettings.Networks.storm.IPAddress}}' $(docker ps -q --filter name=^storm)")
			if addrs = append(addrs, strings.Fields(out)...); err != nil {
				return err
			}
		}
		if len(addrs) != each*len(c.lab.Hosts()) {
			return fmt.Errorf("%d run", len(addrs))
		}
		return nil
	})
	c.Logf("%d containers are back after %v", len(addrs), time.Since(begun).Round(time.Second/10))
	for n := range c.lab.Hosts() {
		var some []string // all from each would fill the kernel's one table of neighbours, of 1,024
		for i := n; i < len(addrs); i += len(c.lab.Hosts()) {
			some = append(some, addrs[i])
		}
		out, err := c.host(n+1).try("docker", "exec", "storm-1", "sh", "-c",
			"for a in "+strings.Join(some, " ")+"; do ping -c 1 -W 3 $a >/dev/null || echo $a; done")
		if err != nil || out != "" {
			c.Errorf("storm-1 on h%d does not reach %s: %v", n+1, out, err)
		}
	}
	c.noAddressTwice()
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
