package test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestPlugin installs causeway from a registry, as users do, and does to it what
// they will.
func TestPlugin(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Plugin: true})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"two lines", twoLines},
		{"both names", bothNames},
		{"restarted under traffic", pluginRestart},
		{"crashed under traffic", pluginCrash},
		{"upgraded under traffic", pluginUpgrade},
		{"engine restarted", pluginEngineRestart},
		{"hidden by an alias", pluginAlias},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// twoLines types what the README begins with.
func twoLines(c *cluster) {
	c.host(1).docker("network", "create", "-d", "causeway", "--subnet=192.168.1.0/24", "foo")
	c.Cleanup(func() { c.removeNetwork("foo") })
	c.everywhere("foo")
	var all []container
	for n := range c.lab.Hosts() {
		h := c.host(n + 1)
		h.docker("run", "-itd", "--net=foo", "--name=busybox", "busybox")
		c.Cleanup(func() { h.remove("busybox") })
		all = append(all, container{h, "busybox"})
	}
	for n, from := range all {
		from.pings(all[(n+1)%len(all)].addr("foo"))
	}
}

// bothNames has the plain name and the full one lead to the same networks.
func bothNames(c *cluster) {
	full, err := c.host(1).PluginName(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	c.host(1).docker("network", "create", "-d", full, "--ipam-driver", full, "--subnet=192.168.2.0/24", "full")
	c.Cleanup(func() { c.removeNetwork("full") })
	c.everywhere("full")
	c.network("plain", "--subnet=192.168.3.0/24")
	if networks := c.clusterNetworks(2); len(networks) != 2 {
		c.Errorf("the cluster has %v", networks)
	}
	first := c.host(1).run("full1", "--net=full")
	first.pings(c.host(2).run("full2", "--net=full").addr("full"))
	c.host(1).docker("network", "connect", "plain", first.name)
	first.pings(c.host(2).run("plain2", "--net=plain").addr("plain"))
}

// pluginCrash kills the plugin; the engine starts it again.
func pluginCrash(c *cluster) {
	c.network("crash", "--subnet=192.168.4.0/24")
	first, second := c.host(1).run("crash1", "--net=crash"), c.host(2).run("crash2", "--net=crash")
	stop := c.steadyFrom(first, second.addr("crash"))
	for _, h := range []*host{c.host(2), c.host(1)} {
		old := h.Causeway.PID()
		if _, err := h.try("kill", "-9", fmt.Sprint(old)); err != nil {
			c.Error(err)
		}
		eventually(c.T, "the plugin runs again on "+h.Name(), func() error {
			if now := h.Causeway.PID(); now == 0 || now == old {
				return fmt.Errorf("its process is %d, and was %d", now, old)
			}
			return h.shows("no troubles", "status")
		})
	}
	stop()
	c.host(1).run("crash3", "--net=crash").pings(second.addr("crash"))
}

// pluginUpgrade brings another build to both hosts while a ping and a TCP
// session run.
func pluginUpgrade(c *cluster) {
	c.network("lasting", "--subnet=192.168.5.0/24")
	first, second := c.host(1).run("lasting1", "--net=lasting"), c.host(2).run("lasting2", "--net=lasting")
	stop := c.steadyFrom(first, second.addr("lasting"))
	session := c.session(second.pid(), second.addr("lasting"), first.pid())
	if err := c.lab.PushPlugin(c.Context(), c.otherBuild(), "0.2"); err != nil {
		c.Fatal(err)
	}
	for _, h := range []*host{c.host(2), c.host(1)} {
		name, err := h.PluginName(c.Context())
		if err != nil {
			c.Fatal(err)
		}
		h.docker("plugin", "disable", "--force", name)
		if out, err := h.try("ip", "netns"); err != nil || !strings.Contains(out, "causeway-") {
			c.Errorf("without the plugin %s has the namespaces %q, %v", h.Name(), out, err)
		}
		h.docker("plugin", "upgrade", "--skip-remote-check", "--grant-all-permissions", name, lab.PluginRepository+":0.2")
		h.docker("plugin", "enable", name)
		if h.Name() == "h2" {
			eventually(c.T, "two versions are noticed", func() error {
				return h.shows("runs causeway", "status")
			})
		}
	}
	eventually(c.T, "both hosts run the other build", func() error { return c.host(1).shows("no troubles", "status") })
	if err := c.host(1).shows("another-build", "hosts"); err != nil {
		c.Error(err)
	}
	stop()
	if err := session.close(); err != nil {
		c.Errorf("the session across the upgrade: %v", err)
	}
	c.host(2).run("lasting3", "--net=lasting").pings(first.addr("lasting"))
}

// otherBuild is causeway with another version in it.
func (c *cluster) otherBuild() string {
	c.Helper()
	path := filepath.Join(c.TempDir(), "causeway")
	build := exec.CommandContext(c.Context(), "go", "build", "-trimpath", "-ldflags=-s -w -X main.stamped=another-build", "-o", path, "../cmd/causeway")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		c.Fatalf("%v: %s", err, out)
	}
	return path
}

// pluginEngineRestart finds the networks and the containers again, by the plain
// name, and without the steps of 15 s in which an engine waits for a plugin.
func pluginEngineRestart(c *cluster) {
	c.network("boot", "--subnet=192.168.6.0/24")
	other := c.host(1).run("boot1", "--net=boot")
	h := c.host(2)
	always := h.run("boot2", "--net=boot", "--restart=always")
	for name, end := range map[string]func() error{
		"stopped": func() error { return h.Docker.Stop(c.Context()) },
		"killed":  func() error { return h.Docker.Kill(c.Context()) },
	} {
		if err := end(); err != nil {
			c.Fatal(err)
		}
		begun := time.Now()
		if err := h.Docker.Start(c.Context()); err != nil {
			c.Fatal(err)
		}
		eventually(c.T, "its container runs again", func() error {
			_, err := always.exec("ping", "-c", "1", "-W", "1", other.addr("boot"))
			return err
		})
		took := time.Since(begun)
		c.Logf("%s: up with its container after %v", name, took.Round(time.Millisecond))
		if took > 14*time.Second {
			c.Errorf("%s: the engine waited for the plugin", name)
		}
		h.docker("run", "--rm", "--net=boot", "busybox", "ping", "-c", "1", "-W", "3", other.addr("boot"))
	}
}

// pluginAlias installs the plugin under the one name that hides the plain one.
func pluginAlias(c *cluster) {
	h := c.host(2)
	if err := h.Causeway.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	const alias = "causeway:latest"
	h.docker("plugin", "install", "--grant-all-permissions", "--alias", alias, lab.PluginRepository+":"+lab.PluginTag,
		"CAUSEWAY_JOIN="+c.lab.Token())
	c.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := h.Run(ctx, "docker", "plugin", "rm", "--force", alias)
		if err := errors.Join(err, h.Causeway.Start(ctx)); err != nil {
			c.Error(err)
		}
	})
	const complaint = "the managed plugin causeway:latest hides the driver causeway from this engine"
	eventually(c.T, "status tells of the alias", func() error { return h.shows(complaint, "status") })
	if err := h.logged(complaint); err != nil {
		c.Error(err)
	}
	if err := h.Docker.Restart(c.Context()); err != nil { // it knew the driver already
		c.Fatal(err)
	}
	out, err := h.try("docker", "network", "create", "-d", "causeway", "--subnet=192.168.7.0/24", "hidden")
	if err == nil {
		c.Errorf("the plain name is found all the same: %s", out)
	}
	c.Log(err)
}
