package test

import (
	"fmt"
	"strings"
)

// pingAndTCP has containers on three hosts, two of them on one, reach each other.
func pingAndTCP(c *cluster) {
	c.network("reach", "--subnet=192.168.10.0/24")
	var containers []container
	for n := range c.lab.Hosts() {
		containers = append(containers, c.host(n+1).run(fmt.Sprint("reach", n+1), "--net=reach"))
	}
	containers = append(containers, c.host(1).run("reach-again", "--net=reach"))
	for _, from := range containers {
		for _, to := range containers {
			if from == to {
				continue
			}
			from.pings(to.addr("reach"))
			from.sendsTCP(to, to.addr("reach"))
		}
	}
}

// sendsTCP has a megabyte go over one connection, and arrive as it was sent.
func (c container) sendsTCP(to container, addr string) {
	c.c.Helper()
	const megabyte = "dd if=/dev/zero bs=1024 count=1024 2>/dev/null"
	to.must("sh", "-c", "rm -f /tmp/got; nc -l -p 7000 > /tmp/got & until netstat -ltn | grep -q :7000; do :; done")
	c.must("sh", "-c", megabyte+" | nc -w 5 "+addr+" 7000")
	eventually(c.c.T, "a megabyte arrives", func() error {
		if size := to.must("wc", "-c", "/tmp/got"); !strings.HasPrefix(size, "1048576 ") {
			return fmt.Errorf("%s has %s", to.name, size)
		}
		return nil
	})
}

// sameSubnetTwice keeps two networks apart that have one subnet.
func sameSubnetTwice(c *cluster) {
	c.network("twin-a", "--subnet=192.168.11.0/24", "--ipam-driver=causeway")
	c.network("twin-b", "--subnet=192.168.11.0/24", "--ipam-driver=causeway", "--ipam-opt=space=b")
	a1 := c.host(1).run("twin-a1", "--net=twin-a", "--ip=192.168.11.10")
	c.host(2).run("twin-a2", "--net=twin-a", "--ip=192.168.11.20")
	b1 := c.host(1).run("twin-b1", "--net=twin-b", "--ip=192.168.11.10")
	b2 := c.host(2).run("twin-b2", "--net=twin-b", "--ip=192.168.11.30")
	a1.pings("192.168.11.20")
	b1.pings("192.168.11.30")
	a1.misses("192.168.11.30")
	b1.misses("192.168.11.20")
	b2.pings("192.168.11.10") // b1, not a1
	if out := b2.must("ip", "neigh", "show", "192.168.11.10"); !strings.Contains(out, b1.mac("twin-b")) {
		c.Errorf("%s answers for 192.168.11.10, want %s", out, b1.mac("twin-b"))
	}
}

// internalNetwork has no way out, and works inside.
func internalNetwork(c *cluster) {
	c.network("inside", "--subnet=192.168.12.0/24", "--internal")
	first := c.host(1).run("inside1", "--net=inside")
	second := c.host(2).run("inside2", "--net=inside")
	first.pings(second.addr("inside"))
	if routes := first.must("ip", "route"); strings.Contains(routes, "default") {
		c.Errorf("a container on an internal network has a default route:\n%s", routes)
	}
}

// chosenAddress gives what --ip and --mac-address ask for.
func chosenAddress(c *cluster) {
	c.network("chosen", "--subnet=192.168.13.0/24")
	first := c.host(1).run("chosen1", "--net=chosen", "--ip=192.168.13.77", "--mac-address=02:00:00:00:00:77")
	second := c.host(2).run("chosen2", "--net=chosen")
	second.pings("192.168.13.77")
	if out := second.must("ip", "neigh", "show", "192.168.13.77"); !strings.Contains(out, "02:00:00:00:00:77") {
		c.Errorf("neighbour is %s", out)
	}
	if got := first.must("cat", "/sys/class/net/eth0/address"); got != "02:00:00:00:00:77" {
		c.Errorf("MAC inside is %s", got)
	}
	_, err := c.host(2).try("docker", "run", "--rm", "--net=chosen", "--ip=192.168.13.77", "busybox", "true")
	if err == nil || !strings.Contains(err.Error(), "192.168.13.77") || !strings.Contains(err.Error(), "h1") {
		c.Errorf("a second --ip=192.168.13.77 is answered with: %v", err)
	}
}

// dualStack has both families between hosts.
func dualStack(c *cluster) {
	c.network("dual", "--ipv6", "--subnet=192.168.14.0/24", "--subnet=fd00:14::/64")
	first := c.host(1).run("dual1", "--net=dual")
	second := c.host(2).run("dual2", "--net=dual")
	first.pings(second.addr("dual"))
	second.pings(first.addr6("dual"))
	first.pings(second.addr6("dual"))
	first.sendsTCP(second, second.addr6("dual"))
}
