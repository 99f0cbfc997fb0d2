package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestSwarm has a swarm of two nodes use the managed plugin.
func TestSwarm(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Plugin: true, Store: lab.StoreEtcd, CausewayArgs: []string{"--scope=global"}})
	c.swarm()
	t.Run("crashes", func(t *testing.T) { swarmCrashes(c.sub(t)) })
	t.Run("dissolved", func(t *testing.T) { swarmDissolved(c.sub(t)) })
}

// TestSwarmNodeLocal spreads a network of local scope.
func TestSwarmNodeLocal(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Plugin: true, Store: lab.StoreEtcd})
	c.swarm()
	name := lab.PluginRepository + ":" + lab.PluginTag
	for n := range c.lab.Hosts() {
		c.host(n+1).docker("network", "create", "--config-only", "--ipam-driver", name, "--subnet=10.54.0.0/24", "settings")
	}
	c.host(1).docker("network", "create", "-d", name, "--scope=swarm", "--attachable", "--config-from=settings", "spread")
	c.dismiss("spread", c.meetByName("spread"))
}

// swarm makes one of all hosts, h1 its manager. The image is put where tasks
// pull it from.
func (c *cluster) swarm() {
	c.Helper()
	c.joinSwarm()
	c.host(1).docker("tag", "busybox", swarmImage)
	c.host(1).docker("push", swarmImage)
}

func (c *cluster) joinSwarm() {
	c.Helper()
	c.host(1).docker("swarm", "init", "--advertise-addr=10.99.0.1")
	token := c.host(1).docker("swarm", "join-token", "-q", "worker")
	for n := range c.lab.Hosts() {
		if n > 0 {
			c.host(n+1).docker("swarm", "join", "--token", token, "10.99.0.1:2377")
		}
	}
}

const swarmImage = lab.RegistryAddr + "/busybox"

// meetByName runs a container on each node on an attachable network, and has
// them reach each other by their names.
func (c *cluster) meetByName(network string) []container {
	c.Helper()
	var all []container
	for n := range c.lab.Hosts() {
		all = append(all, c.host(n+1).run(fmt.Sprint(network, n+1), "--net="+network))
	}
	for n, from := range all {
		to := all[(n+1)%len(all)]
		eventually(c.T, from.name+" knows "+to.name, func() error {
			_, err := from.exec("ping", "-c", "1", "-W", "2", to.name)
			return err
		})
		from.pings(to.name)
	}
	return all
}

// service runs tasks on all nodes, and waits until each of them answers the
// container that asks for the service's name.
func (c *cluster) service(name, network string, tasks int, asks container) {
	c.Helper()
	c.host(1).docker("service", "create", "--detach", "--name", name, "--network", network, "--endpoint-mode=dnsrr",
		"--replicas", fmt.Sprint(tasks), "--stop-grace-period=1s", swarmImage, "sleep", "3600")
	c.answers(name, tasks, asks)
	if nodes := c.host(1).docker("service", "ps", "--format={{.Node}}", name); !strings.Contains(nodes, "h1") || !strings.Contains(nodes, "h2") {
		c.Errorf("the tasks run on %q", nodes)
	}
}

func (c *cluster) answers(service string, tasks int, asks container) {
	c.Helper()
	var found []string
	eventually(c.T, "all tasks of "+service+" are known", func() error {
		out, _ := asks.exec("nslookup", "-type=a", service) // exits with 1 where there is no AAAA
		found = nil
		for line := range strings.Lines(out[strings.LastIndex(out, ":53")+1:]) {
			if address, ok := strings.CutPrefix(line, "Address: "); ok {
				found = append(found, strings.TrimSpace(address))
			}
		}
		if len(found) != tasks {
			return fmt.Errorf("%d of %d are: %s", len(found), tasks, out)
		}
		return nil
	})
	for _, addr := range found {
		eventually(c.T, addr+" of "+service+" answers", func() error {
			_, err := asks.exec("ping", "-c", "1", "-W", "1", addr)
			return err
		})
	}
}

// dismiss removes a network with its containers, and waits until the cluster has
// forgotten it.
func (c *cluster) dismiss(network string, all []container) {
	c.Helper()
	for _, one := range all {
		one.remove(one.name)
	}
	eventually(c.T, network+" can be removed", func() error {
		_, err := c.host(1).try("docker", "network", "rm", network)
		return err
	})
	eventually(c.T, network+" is out of the records", func() error {
		for _, left := range c.clusterNetworks(1) {
			if left.Name == network {
				return fmt.Errorf("it is there: %+v", left)
			}
		}
		return nil
	})
}

func swarmNetwork(c *cluster, ipam string) {
	network := "attach-" + ipam[:1]
	c.host(1).docker("network", "create", "-d", lab.PluginRepository+":"+lab.PluginTag, "--attachable",
		"--ipam-driver", ipam, "-o", "vni=4242", "--subnet=10.50.0.0/24", network)
	all := c.meetByName(network)
	c.service("svc-"+network, network, 4, all[0])
	eventually(c.T, "its name and its options are known", func() error {
		for _, known := range c.clusterNetworks(2) {
			if known.Name == network && known.VNI == 4242 {
				return nil
			}
		}
		return fmt.Errorf("the cluster has %v", c.clusterNetworks(2))
	})
	besideOverlay(c)
	c.host(1).docker("service", "rm", "svc-"+network)
	c.dismiss(network, all)
}

// besideOverlay has Docker's own overlay use the same UDP port on the same hosts.
func besideOverlay(c *cluster) {
	c.host(1).docker("network", "create", "-d", "overlay", "--attachable", "overlay")
	c.dismiss("overlay", c.meetByName("overlay"))
}

// swarmCrashes restarts the leader and then has the other node crash with all of
// its containers: no delete ever comes for these. While their endpoints are waited for,
// the swarm makes networks with each IPAM driver.
func swarmCrashes(c *cluster) {
	const network = "rough"
	c.host(1).docker("network", "create", "-d", lab.PluginRepository+":"+lab.PluginTag, "--attachable", "--subnet=10.52.0.0/24", network)
	all := c.meetByName(network)
	c.service("rough-svc", network, 2, all[0])
	if err := c.host(1).Docker.Restart(c.Context()); err != nil {
		c.Fatal(err)
	}
	first := c.host(1).run("after-leader", "--net="+network)
	eventually(c.T, "the node is reached after the leader's restart", func() error {
		_, err := first.exec("ping", "-c", "1", "-W", "2", all[1].addr(network))
		return err
	})
	lost := all[1].pid()
	if err := c.host(2).Docker.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	if _, err := c.host(2).try("kill", "-9", fmt.Sprint(lost)); err != nil {
		c.Error(err)
	}
	if err := c.host(2).Docker.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	second := c.host(2).run("after-crash", "--net="+network)
	second.pings(first.addr(network))
	c.answers("rough-svc", 2, first)
	for name, ipam := range map[string]string{"Docker's IPAM": "default", "causeway's IPAM": lab.PluginRepository + ":" + lab.PluginTag} {
		c.Run(name, func(t *testing.T) { swarmNetwork(c.sub(t), ipam) })
	}
	// Seen dead twice, with the grace time between.
	eventuallyWithin(c.T, 2*time.Minute, "the dead container's endpoint is erased", func() error {
		out, err := c.host(1).try("causeway", "endpoints", network)
		if err == nil && strings.Contains(out, all[1].name) {
			return fmt.Errorf("it is there:\n%s", out)
		}
		return err
	})
}

// swarmDissolved ends the swarm with a network in it: nothing ever frees that.
func swarmDissolved(c *cluster) {
	const network = "left"
	c.host(1).docker("network", "create", "-d", lab.PluginRepository+":"+lab.PluginTag, "--attachable", "--subnet=10.53.0.0/24", network)
	all := c.meetByName(network)
	if _, err := c.host(1).try("causeway", "networks", "rm", network); err == nil || !strings.Contains(err.Error(), "has endpoints on h1, h2") {
		c.Errorf("got %v", err)
	}
	for _, one := range all {
		one.remove(one.name)
	}
	for n := range c.lab.Hosts() {
		c.host(n+1).docker("swarm", "leave", "--force")
	}
	if out, err := c.host(1).try("causeway", "networks", "rm", network); err != nil || out != "network left is deleted" {
		c.Errorf("got %q, %v", out, err)
	}
	for _, left := range c.clusterNetworks(2) { // of the crashes
		if out, err := c.host(2).try("causeway", "networks", "rm", left.ID); err != nil || out != "network "+left.ID+" is deleted" {
			c.Errorf("got %q, %v", out, err)
		}
	}
	if left := c.clusterNetworks(2); len(left) > 0 {
		c.Errorf("the cluster still has %v", left)
	}
}
