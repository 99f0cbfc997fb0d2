package test

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// sendsAsItself has containers pretend to be others, with NET_ADMIN and without, and take
// over an address that floats.
func sendsAsItself(c *cluster) {
	c.network("honest", "--subnet=192.168.40.0/24", "--aux-address=vip=192.168.40.100", "-o", "allow=192.168.40.100")
	admin := c.host(1).run("spoofer", "--net=honest", "--cap-add=NET_ADMIN")
	victim, other := c.host(2).run("victim", "--net=honest"), c.host(1).run("bystander", "--net=honest")
	admin.pings(victim.addr("honest"))
	admin.pings(other.addr("honest"))
	admin.must("ip", "addr", "add", "192.168.40.77/24", "dev", "eth0")
	if out, err := admin.exec("ping", "-c", "1", "-W", "1", "-I", "192.168.40.77", victim.addr("honest")); err == nil {
		c.Errorf("a stolen address is answered: %s", out)
	}
	admin.must("ip", "addr", "del", "192.168.40.77/24", "dev", "eth0")
	other.pings(victim.addr("honest"))

	admin.must("ip", "addr", "add", "192.168.40.100/32", "dev", "eth0")
	if !slices.Contains(c.options, "mode=routed") { // whose hosts hear no announcements from another
		victim.pings("192.168.40.100")
	}
	other.pings("192.168.40.100")

	mac := admin.mac("honest")
	admin.must("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
	if out, err := admin.exec("ping", "-c", "1", "-W", "1", victim.addr("honest")); err == nil {
		c.Errorf("another MAC is answered: %s", out)
	}
	admin.must("ip", "link", "set", "eth0", "address", mac)
	c.counts("honest", `\d+ spoofed (IPv4 source|ARP sender) \(spoofer\)`, `\d+ spoofed MAC \(spoofer\)`)
	forges(c, victim, other)
	heldToRate(c)
}

// heldToRate has a container send, and get, as fast as its network with a rate lets it.
func heldToRate(c *cluster) {
	const mbit = 20
	c.network("slow", "--subnet=192.168.42.0/24", "-o", fmt.Sprintf("rate=%dmbit", mbit))
	from, to := c.host(1).run("hasty", "--net=slow"), c.host(1).run("patient", "--net=slow")
	from.pings(to.addr("slow"))
	rate, err := c.throughput(from, to, to.addr("slow"))
	if err != nil {
		c.Fatal(err)
	}
	c.Logf("one TCP stream on a network of %d Mbit/s: %.1f Mbit/s", mbit, 1000*rate)
	if 1000*rate > 1.3*mbit || 1000*rate < mbit/5 {
		c.Errorf("%.1f Mbit/s came through", 1000*rate)
	}
}

// forges has a container with no more than docker run gives it, which is NET_RAW, send
// frames of its own making to victim on another host, and in the name of other beside it.
func forges(c *cluster, victim, other container) {
	plain := c.host(1).run("forger", "--net=honest", "--sysctl=net.ipv4.ip_nonlocal_bind=1") // arping asks for it
	plain.pings(victim.addr("honest"))
	plain.must("arping", "-U", "-c", "1", "-I", "eth0", other.addr("honest"))
	own, stolen := netip.MustParseAddr(plain.addr("honest")), netip.MustParseAddr(other.addr("honest"))
	for _, frame := range []struct {
		name string
		mac  string
		from netip.Addr
		want bool
	}{
		{"its own MAC and address", plain.mac("honest"), own, true},
		{"another's address", plain.mac("honest"), stolen, false},
		{"another's MAC", other.mac("honest"), own, false},
	} {
		if got := c.forged(plain, victim, frame.mac, frame.from); got != frame.want {
			c.Errorf("a frame from %s arrived: %t", frame.name, got)
		}
	}
	other.pings(victim.addr("honest"))
	c.counts("honest", `3 spoofed IPv4 source \(forger\)`, `3 spoofed MAC \(forger\)`, `\d+ spoofed ARP sender \(forger\)`)
}

// forged has a container send a datagram to victim from that MAC and address, and says
// whether it arrives.
func (c *cluster) forged(from, victim container, mac string, addr netip.Addr) bool {
	c.Helper()
	to := from.nextHop(victim.addr("honest"))
	sender, err := fabric.ParseMAC(mac)
	if err != nil {
		c.Fatal(err)
	}
	frame := slices.Concat(to[:], sender[:], []byte{0x08, 0x00}, datagram(addr, netip.MustParseAddr(victim.addr("honest")), intruderPort, "forged"))
	pid := from.pid()
	return c.getsWords(victim, "forged", func() error { return sendFrame(pid, frame) })
}

// sendFrame has a container, by the process in it, send a frame of its own making, for
// which it needs NET_RAW.
func sendFrame(pid int, frame []byte) error {
	return inside(pid, func() error {
		nic, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: nic.Index})
	})
}

// nextHop is the MAC that the container's packets for addr go to; they have gone before.
func (c container) nextHop(addr string) fabric.MAC {
	c.c.Helper()
	hop := addr
	if _, via, there := strings.Cut(c.must("ip", "route", "get", addr), " via "); there {
		hop, _, _ = strings.Cut(via, " ")
	}
	for word := range strings.FieldsSeq(c.must("ip", "neigh", "show", hop)) {
		if mac, err := fabric.ParseMAC(word); err == nil {
			return mac
		}
	}
	c.c.Fatalf("%s on %s knows no MAC of %s", c.name, c.Name(), hop)
	return fabric.MAC{}
}

// counts waits until the status of the first host tells of these drops on the network.
func (c *cluster) counts(network string, patterns ...string) {
	c.Helper()
	eventually(c.T, "status counts what was dropped", func() error {
		out, err := c.host(1).try("causeway", "status")
		if err != nil {
			return err
		}
		for _, want := range patterns {
			if !regexp.MustCompile(`(?m)^drops on ` + network + `: .*` + want).MatchString(out) {
				return fmt.Errorf("status has no %s:\n%s", want, out)
			}
		}
		return nil
	})
}
