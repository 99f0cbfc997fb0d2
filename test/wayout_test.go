package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// The machines beyond the lab's router, which have no route to containers.
const (
	outside4 = "203.0.113.1"
	outside6 = "2001:db8::1"
)

// wayOut has a container reach the world by its network's own gateway, and its host reach
// it; and the host kept from it.
func wayOut(c *cluster) {
	c.network("leave", "--ipv6", "--subnet=192.168.31.0/24", "--subnet=fd31::/64")
	one, two := c.host(1).run("leave1", "--net=leave"), c.host(2).run("leave2", "--net=leave")
	for _, from := range []container{one, two} {
		if routes := from.must("ip", "route"); !strings.Contains(routes, "default via 192.168.31.1 dev eth0") {
			c.Fatalf("%s has another gateway than the network's:\n%s", from.name, routes)
		}
		from.pings(outside4)
		from.pings(outside6)
		from.pings("192.168.31.1")
		if _, err := from.try("ping", "-c", "1", "-W", "2", from.addr("leave")); err != nil {
			c.Errorf("its host does not reach %s: %v", from.name, err)
		}
	}
	one.pings(two.addr("leave"))
	c.Run("host access", func(t *testing.T) { hostAccess(c.sub(t), one) })
	c.Run("other networks", func(t *testing.T) { otherNetworks(c.sub(t), one) })
	c.Run("published port beside it", func(t *testing.T) {
		c := c.sub(t)
		server := c.host(1).run("leave-pub", "--net=leave", "-p", "8031:80")
		server.must("sh", "-c", "httpd -p 80 -h /etc")
		for name, from := range map[string]func(...string) (string, error){"this host's container": one.exec, "the other's": two.exec} {
			if _, err := from("timeout", "5", "wget", "-q", "-O", "/dev/null", "http://10.99.0.1:8031/passwd"); err != nil {
				c.Errorf("%s does not reach a published port: %v", name, err)
			}
		}
	})
	c.Run("changed by hand", func(t *testing.T) { gatewayChanged(c.sub(t), one) })
}

// hostAccess asks for a TCP service of the host on its gateway's and its own address.
func hostAccess(c *cluster, closed container) {
	c.network("open", "-o", "host-access=true", "--subnet=192.168.32.0/24")
	open := c.host(1).run("open1", "--net=open")
	reaches := func(from container, addr string) bool {
		_, err := from.exec("timeout", "2", "wget", "-q", "-O", "/dev/null", "http://"+addr+":7946/ostype")
		return err == nil
	}
	server := c.host(1).Command(c.Context(), "busybox", "httpd", "-f", "-p", "7946", "-h", "/proc/sys/kernel")
	if err := server.Start(); err != nil {
		c.Fatal(err)
	}
	defer func() { _ = server.Process.Kill(); _ = server.Wait() }()
	eventually(c.T, "the host's service answers", func() error {
		if !reaches(open, "192.168.32.1") || !reaches(open, "10.99.0.1") {
			return fmt.Errorf("not reached")
		}
		return nil
	})
	var wait sync.WaitGroup // each waits for an answer that does not come
	for _, addr := range []string{"192.168.31.1", "10.99.0.1", "192.168.32.1"} {
		wait.Go(func() {
			if reaches(closed, addr) {
				c.Errorf("without host-access a container reaches the host at %s", addr)
			}
		})
	}
	wait.Wait()
}

// otherNetworks are out of reach by the host's forwarding: causeway's and Docker's.
func otherNetworks(c *cluster, one container) {
	c.network("apart", "--subnet=192.168.33.0/24")
	apart := c.host(1).run("apart1", "--net=apart")
	bridged := c.host(1).run("apart-bridged")
	one.misses(apart.addr("apart"))
	one.misses(bridged.addr("bridge"))
	bridged.misses(one.addr("leave"))
}

// gatewayChanged has what the gateway needs deleted, and causeway and Docker restarted, on h1.
func gatewayChanged(c *cluster, one container) {
	h1 := c.host(1)
	link, err := h1.try("sh", "-c", "ip -br addr | grep -o '^cwg[^@ ]*.*192.168.31.1/' | grep -o '^cwg[^@ ]*'")
	if err != nil {
		c.Fatal(err)
	}
	for _, command := range []string{
		"ip addr flush dev " + link, "ip link set " + link + " down", "ip link del " + link,
		"iptables -F FORWARD", "ip6tables -F FORWARD",
		"nft flush ruleset",
	} {
		if _, err := h1.try(strings.Fields(command)...); err != nil {
			c.Fatal(err)
		}
		began := time.Now()
		for _, addr := range []string{outside4, outside6} {
			eventuallyWithin(c.T, 10*time.Second, addr+" is reached again after "+command, func() error {
				_, err := one.exec("ping", "-c", "1", "-W", "1", addr)
				return err
			})
		}
		c.Logf("reached again after %s: %s", time.Since(began).Round(10*time.Millisecond), command)
	}
}

// gatewayChosen has containers with several networks, and networks without a gateway here.
func gatewayChosen(c *cluster) {
	c.network("gw-b", "--subnet=192.168.34.0/24")
	c.network("gw-a", "--subnet=192.168.35.0/24")
	c.network("gw-docker", "-o", "gateway=docker", "--subnet=192.168.36.0/24")
	h1 := c.host(1)
	via := func(of container, want string) {
		c.Helper()
		if routes := of.must("ip", "route"); !strings.Contains(routes, "default via "+want+" ") {
			c.Errorf("%s has not the gateway %s:\n%s", of.name, want, routes)
		}
		of.pings(outside4)
	}
	via(h1.run("by-docker", "--net=gw-docker"), "192.168.240.1")
	one := h1.run("of-two", "--net=gw-b")
	via(one, "192.168.34.1")
	h1.docker("network", "connect", "gw-a", "of-two")
	via(one, "192.168.35.1") // by the networks' names
	h1.docker("network", "disconnect", "gw-a", "of-two")
	via(one, "192.168.34.1")
	h1.docker("network", "connect", "bridge", "of-two")
	via(one, "172.17.0.1") // by the networks' names
	h1.docker("network", "disconnect", "gw-b", "of-two")
	h1.docker("network", "connect", "gw-b", "of-two")
	h1.docker("network", "disconnect", "bridge", "of-two")
	via(one, "192.168.34.1")

	h1.docker("network", "connect", "gw-a", "of-two")
	h1.docker("network", "disconnect", "gw-b", "of-two")
	if _, err := h1.try("docker", "network", "connect", "--gw-priority", "1", "gw-b", "of-two"); err == nil { // 28.0 and newer
		via(one, "192.168.34.1")
	}

	c.Run("subnet of the host", func(t *testing.T) {
		c := c.sub(t)
		if _, err := h1.try("ip", "route", "add", "192.168.37.128/25", "via", "10.99.0.254"); err != nil {
			c.Fatal(err)
		}
		defer func() { _, _ = h1.try("ip", "route", "del", "192.168.37.128/25") }()
		c.network("gw-taken", "--subnet=192.168.37.0/24")
		via(c.host(1).run("taken1", "--net=gw-taken"), "192.168.240.1")
		via(c.host(2).run("taken2", "--net=gw-taken"), "192.168.37.1")
		const told = "network gw-taken has no gateway of its own on this host, and its containers take Docker's (docker_gwbridge): its subnet 192.168.37.0/24 overlaps a route of this host: 192.168.37.128/25 on "
		if out, err := h1.try("causeway", "status"); err != nil || !strings.Contains(out, told) {
			c.Errorf("status says: %s, %v", out, err)
		}
	})
}
