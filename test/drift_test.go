package test

import (
	"strings"
	"time"
)

// changedByHand deletes on h1 what its traffic needs, one thing after another.
// Without notifications of the kernel each would be missing for up to a minute.
func changedByHand(c *cluster) {
	c.network("drifts", "--subnet=192.168.24.0/24")
	one := c.host(1).run("drifts1", "--net=drifts")
	two := c.host(2).run("drifts2", "--net=drifts")
	addr, mac := two.addr("drifts"), two.mac("drifts")
	one.pings(addr)
	namespace := c.host(1).namespaceWith(addr)
	for _, command := range []string{
		"bridge fdb del " + mac + " dev vxlan0 self",
		"bridge fdb replace " + mac + " dev vxlan0 self dst 10.254.254.254",
		"ip neigh replace " + addr + " lladdr 02:00:00:00:00:01 dev br0 nud permanent",
		"ip link set vxlan0 down",
		"ip link set vxlan0 nomaster",
		"ip link del br0",
	} {
		one.nsenter("ip", "neigh", "flush", "dev", "eth0")
		if _, err := c.host(1).try(append([]string{"ip", "netns", "exec", namespace}, strings.Fields(command)...)...); err != nil {
			c.Fatal(err)
		}
		began := time.Now()
		eventuallyWithin(c.T, 10*time.Second, addr+" is reached again after "+command, func() error {
			_, err := one.exec("ping", "-c", "1", "-W", "1", addr)
			return err
		})
		c.Logf("reached again after %s: %s", time.Since(began).Round(10*time.Millisecond), command)
	}
}

// namespaceWith names the network's namespace whose bridge answers for addr.
func (h *host) namespaceWith(addr string) string {
	h.c.Helper()
	list, err := h.try("ip", "netns", "list")
	if err != nil {
		h.c.Fatal(err)
	}
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if out, err := h.try("ip", "-n", name, "neigh", "show", "dev", "br0"); err == nil && strings.Contains(out, addr+" lladdr") {
			return name
		}
	}
	h.c.Fatalf("no namespace on %s has a neighbour %s:\n%s", h.Name(), addr, list)
	return ""
}
