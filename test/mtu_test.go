package test

import "strconv"

// mtu has the interface's MTU leave room for the tunnel, and a packet of just
// that size pass without being cut.
func mtu(c *cluster) {
	c.network("size", "--subnet=192.168.41.0/24")
	first := c.host(1).run("size1", "--net=size")
	second := c.host(2).run("size2", "--net=size")
	want := 1500 - c.overhead
	if got := first.must("cat", "/sys/class/net/eth0/mtu"); got != strconv.Itoa(want) {
		c.Errorf("MTU is %s, want %d", got, want)
	}
	const headers = 20 + 8 // IPv4 and ICMP
	ping := c.machine("h1").Command(c.Context(), "nsenter", "--target", strconv.Itoa(first.pid()), "--net",
		"ping", "-c", "3", "-i", "0.1", "-W", "3", "-M", "do", "-s", strconv.Itoa(want-headers), second.addr("size"))
	if out, err := ping.CombinedOutput(); err != nil {
		c.Errorf("a packet of %d bytes with DF does not pass: %v\n%s", want, err, out)
	}
}
