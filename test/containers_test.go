package test

import (
	"strings"
)

func connectDisconnect(c *cluster) {
	c.network("plugged", "--subnet=192.168.20.0/24")
	fixed := c.host(1).run("fixed", "--net=plugged")
	moved := c.host(2).run("moved")
	for range 2 {
		c.host(2).docker("network", "connect", "plugged", "moved")
		moved.pings(fixed.addr("plugged"))
		fixed.pings(moved.addr("plugged"))
		addr := moved.addr("plugged")
		c.host(2).docker("network", "disconnect", "plugged", "moved")
		fixed.misses(addr)
	}
}

// sharedSandbox has a second container in the first one's sandbox.
func sharedSandbox(c *cluster) {
	c.network("shared", "--subnet=192.168.21.0/24")
	owner := c.host(1).run("owner", "--net=shared")
	guest := c.host(1).run("guest", "--net=container:owner")
	other := c.host(2).run("other", "--net=shared")
	guest.pings(other.addr("shared"))
	if out := guest.must("ip", "-4", "addr", "show", "eth0"); !strings.Contains(out, owner.addr("shared")) {
		c.Errorf("the guest has another address than %s:\n%s", owner.addr("shared"), out)
	}
}

func fromNone(c *cluster) {
	c.network("entered", "--subnet=192.168.22.0/24")
	other := c.host(1).run("inmate", "--net=entered")
	loner := c.host(2).run("loner", "--net=none")
	c.host(2).docker("network", "disconnect", "none", "loner")
	c.host(2).docker("network", "connect", "entered", "loner")
	loner.pings(other.addr("entered"))
	other.pings(loner.addr("entered"))
}

func restartAndRecreate(c *cluster) {
	c.network("again", "--subnet=192.168.23.0/24")
	stays := c.host(1).run("stays", "--net=again")
	leaves := c.host(2).run("leaves", "--net=again", "--ip=192.168.23.50")
	stays.pings("192.168.23.50")
	c.host(2).docker("restart", "-t", "0", "leaves")
	stays.pings("192.168.23.50")
	leaves.pings(stays.addr("again"))
	c.host(2).docker("rm", "-f", "leaves")
	stays.misses("192.168.23.50")
	// Elsewhere, and with the neighbour entry of the first still in stays.
	if len(c.lab.Hosts()) > 2 {
		c.host(3).run("leaves-to-h3", "--net=again", "--ip=192.168.23.50")
		stays.pings("192.168.23.50")
	}
}
