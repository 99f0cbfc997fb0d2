package test

import (
	"strings"
	"sync"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestAddresses has networks that overlap, other drivers on causeway's IPAM, and
// pools that are full.
func TestAddresses(t *testing.T) {
	c := up(t, lab.Options{Hosts: 3})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"one subnet for two networks", overlappingNetworks},
		{"another driver keeps its pool", anotherDriversPool},
		{"one network on three hosts at once", oneNetworkAtOnce},
		{"a full pool", fullPool},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// overlappingNetworks has two hosts choose one subnet for two networks, as two
// projects of compose do.
func overlappingNetworks(c *cluster) {
	const subnet = "--subnet=10.60.0.0/24"
	c.network("lap-a", subnet)
	c.host(2).docker("network", "create", "-d", "causeway", subnet, "lap-b")
	c.Cleanup(func() { c.removeNetwork("lap-b") })
	c.everywhere("lap-b")
	a := c.host(1).run("lap-a1", "--net=lap-a")
	b := c.host(2).run("lap-b2", "--net=lap-b")
	if a.addr("lap-a") != b.addr("lap-b") {
		c.Errorf("Docker's allocators gave %s and %s", a.addr("lap-a"), b.addr("lap-b"))
	}
	a3, b3 := c.host(3).run("lap-a3", "--net=lap-a", "--ip=10.60.0.77"), c.host(3).run("lap-b3", "--net=lap-b", "--ip=10.60.0.88")
	a.pings("10.60.0.77")
	b.pings("10.60.0.88")
	a3.pings(a.addr("lap-a"))
	b3.pings(b.addr("lap-b"))
	a.misses("10.60.0.88")
	b.misses("10.60.0.77")
	const told = "networks whose subnets overlap another's are kept apart, each with its own addresses: lap-b (10.60.0.0/24, as lap-a)"
	if err := c.host(3).shows(told, "status"); err != nil {
		c.Error(err)
	}
	for _, name := range []string{"lap-a1", "lap-a3"} {
		c.host(1).remove(name)
		c.host(3).remove(name)
	}
	c.host(3).docker("network", "rm", "lap-a")
	c.nowhere("lap-a")
	b3.pings(b.addr("lap-b"))
	if err := c.host(1).shows("no troubles", "status"); err != nil {
		c.Error(err)
	}
}

// anotherDriversPool has a network of Docker's bridge driver on causeway's IPAM.
func anotherDriversPool(c *cluster) {
	const subnet = "--subnet=10.61.0.0/24"
	h := c.host(1)
	h.docker("network", "create", "-d", "bridge", "--ipam-driver=causeway", subnet, "other")
	c.Cleanup(func() { c.removeNetwork("other") })
	first := h.run("other1", "--net=other")
	c.network("other-docker", subnet, "-o", "com.docker.network.driver.mtu=1400") // kept apart
	_, err := h.try("docker", "network", "create", "-d", "causeway", "--ipam-driver=causeway", subnet, "other-causeway")
	if want := "subnet 10.61.0.0/24 overlaps 10.61.0.0/24 of a network on [h1]"; err == nil || !strings.Contains(err.Error(), want) {
		c.Errorf("causeway's IPAM: %v, want %s", err, want)
	}
	h.docker("network", "rm", "other-docker")
	c.nowhere("other-docker")
	second := h.run("other2", "--net=other")
	if first.addr("other") == second.addr("other") {
		c.Errorf("%s was given twice", first.addr("other"))
	}
}

// oneNetworkAtOnce is "docker compose up" of one project on all hosts at once.
func oneNetworkAtOnce(c *cluster) {
	for _, ipam := range []string{"default", "causeway", "causeway"} {
		var wait sync.WaitGroup
		for n := range c.lab.Hosts() {
			wait.Go(func() {
				_, err := c.host(n+1).try("docker", "network", "create", "-d", "causeway", "--ipam-driver", ipam, "--subnet=10.62.0.0/24", "atonce")
				if err != nil && !strings.Contains(err.Error(), "already exists") { // the mirror was faster
					c.Errorf("IPAM %s on h%d: %v", ipam, n+1, err)
				}
			})
		}
		wait.Wait()
		eventually(c.T, "one network atonce is everywhere", func() error { return c.onlyOne("atonce") })
		first, second := c.host(1).run("atonce1", "--net=atonce"), c.host(2).run("atonce2", "--net=atonce")
		first.pings(second.addr("atonce"))
		c.host(1).remove("atonce1")
		c.host(2).remove("atonce2")
		c.host(3).docker("network", "rm", "atonce")
		c.nowhere("atonce")
	}
}

// fullPool fills a pool from both sides, and again with what is in quarantine.
func fullPool(c *cluster) {
	c.network("full", "--subnet=10.63.0.0/29")
	const full = "pool 10.63.0.0/29 is full: all of its 6 addresses are in use"
	c.host(1).run("full1", "--net=full")
	for round := range 2 {
		for _, name := range []string{"full2", "full3", "full4", "full5"} {
			c.host(2).run(name, "--net=full")
		}
		for n := range c.lab.Hosts() {
			out, err := c.host(n+1).try("docker", "run", "--rm", "--net=full", "busybox", "true")
			if err == nil || !strings.Contains(err.Error(), full) {
				c.Errorf("round %d, h%d: %q, %v", round, n+1, out, err)
			}
		}
		for _, name := range []string{"full2", "full3", "full4", "full5"} {
			c.host(2).remove(name)
		}
	}
}
