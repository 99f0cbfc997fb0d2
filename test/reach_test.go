package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
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
	sent := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(sent)
	listener := c.c.listen(to, "tcp")
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		c.c.Fatal(err)
	}
	var wait errgroup.Group
	wait.Go(func() error {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		got, err := io.ReadAll(conn)
		if err == nil && !bytes.Equal(got, sent) {
			err = fmt.Errorf("%d other bytes arrive", len(got))
		}
		return err
	})
	wait.Go(func() error {
		conn, err := c.c.dial(c, "tcp", net.JoinHostPort(addr, port))
		if err != nil {
			return errors.Join(err, listener.Close())
		}
		_, err = conn.Write(sent)
		return errors.Join(err, conn.Close())
	})
	if err := wait.Wait(); err != nil {
		c.c.Fatalf("TCP from %s on %s to %s: %v", c.name, c.Name(), addr, err)
	}
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
