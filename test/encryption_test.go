package test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// encryption has nothing of an encrypted network be readable between the hosts, also
// while its device is missing, and nobody get in with a host's address.
func encryption(c *cluster) {
	c.encrypts()
	c.network("secret", "--subnet=192.168.95.0/24", "-o", "encrypted=true")
	c.network("open", "--subnet=192.168.96.0/24")
	from := c.host(1).run("teller", "--net=secret")
	to := c.host(2).run("hearer", "--net=secret")
	c.host(1).docker("network", "connect", "open", "teller")
	c.host(2).docker("network", "connect", "open", "hearer")
	from.pings(to.addr("secret"))
	c.sound(c.traces(1, "teller", to.addr("secret")), 2)
	if mtu := strings.Fields(from.must("cat", "/sys/class/net/eth0/mtu"))[0]; mtu != fmt.Sprint(c.linkMTU()-60-70) {
		c.Errorf("the MTU is %s", mtu)
	}
	words := "nobody-else-reads-this"
	overheard := c.overhear(c.host(1), "eth0", words)
	c.tells(from, to, "open", words)
	eventually(c.T, "what an open network carries is overheard", func() error {
		if overheard() == 0 {
			c.tells(from, to, "open", words)
			return errors.New("not yet")
		}
		return nil
	})
	inner := netip.MustParseAddr(from.addr("secret")).AsSlice()
	inner = append(inner, netip.MustParseAddr(to.addr("secret")).AsSlice()...)
	overheard, addressed := c.overhear(c.host(1), "eth0", words), c.overhear(c.host(1), "eth0", string(inner))
	for range 50 {
		c.tells(from, to, "secret", words)
	}
	c.must(c.host(1), "ip", "link", "del", c.host(1).wireGuard())
	for range 50 { // while it is mended
		c.tells(from, to, "secret", words)
	}
	began := time.Now()
	eventually(c.T, "the deleted device is back", func() error {
		_, err := from.exec("ping", "-c", "1", "-W", "1", to.addr("secret"))
		return err
	})
	c.Logf("the network carries again after %s", time.Since(began))
	if words, addrs := overheard(), addressed(); words+addrs != 0 {
		c.Errorf("of the encrypted network %d packets' words and %d packets' addresses were readable on the wire", words, addrs)
	}
	c.forges(from, to)
	open := c.wall("udp dport 51822-51823")
	if found := "Nothing comes back through the encrypted tunnel from host h2."; len(c.options) == 0 {
		c.finds(1, found)
	} else {
		c.finds(1, "Nothing comes back on networks of "+c.options[0]+" from host h2.")
	}
	open()
}

// encrypts skips where no host can encrypt. The engine ends what a managed plugin has
// started with it, so that it needs the kernel's WireGuard.
func (c *cluster) encrypts() {
	if !c.host(1).managed() {
		return
	}
	if _, err := c.host(1).try("ip", "link", "add", "probed", "type", "wireguard"); err != nil {
		c.Skip("this kernel has no WireGuard, and a managed plugin takes no other")
	}
	c.must(c.host(1), "ip", "link", "del", "probed")
}

// routed says that the cluster's networks exchange packets between hosts, and no frames.
func (c *cluster) routed() bool { return slices.Contains(c.options, "mode=routed") }

// linkMTU is that of the hosts' NICs.
func (c *cluster) linkMTU() int { return c.host(1).record().MTU }

// tells sends a datagram from one container to another.
func (c *cluster) tells(from, to container, network, words string) {
	c.Helper()
	err := inside(from.pid(), func() error {
		socket, err := net.Dial("udp", net.JoinHostPort(to.addr(network), "9"))
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write([]byte(words))
		return err
	})
	if err != nil && !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.EHOSTUNREACH) {
		c.Fatal(err)
	}
}

// overhear listens on a NIC of a host, and counts the frames with the words in them
// when it is asked, which ends it.
func (c *cluster) overhear(on *host, nic, words string) func() int {
	c.Helper()
	socket := c.packets(on.PID(), nic)
	var mu sync.Mutex
	count := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		for frame := make([]byte, 1<<16); ; {
			n, err := socket.Read(frame)
			if err != nil {
				return
			}
			mu.Lock()
			if bytes.Contains(frame[:n], []byte(words)) {
				count++
			}
			mu.Unlock()
		}
	}()
	c.Cleanup(func() { _ = socket.Close(); <-done })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

// packets opens a socket for all frames of a NIC in the namespace of a process.
func (c *cluster) packets(pid int, nic string) (socket *os.File) {
	c.Helper()
	err := inside(pid, func() error {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		socket = os.NewFile(uintptr(fd), "packets")
		link, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: all})
	})
	if err != nil {
		c.Fatal(err)
	}
	return socket
}

// forges has a machine of the LAN send for the victim what a member of the network would,
// from the member's address, or in VXLAN from its host's: it arrives on a network that is
// not encrypted, as IP has no sender's proof, and not on one that is.
func (c *cluster) forges(member, victim container) {
	c.Helper()
	for network, want := range map[string]bool{"open": true, "secret": false} {
		from, frame := member.vtep(), c.frameFor(member, victim, network)
		if c.routed() {
			from = netip.MustParseAddr(member.addr(network))
			frame = injection{to: netip.AddrPortFrom(netip.MustParseAddr(victim.addr(network)), intruderPort), through: victim.vtep(), payload: []byte(placeholder)}
		}
		if network == "open" || c.routed() {
			if got := c.injectedAs(from, victim, frame); got != want {
				c.Errorf("network %s: what has a member's forged address arrived: %t", network, got)
			}
		}
	}
	frame := c.frameFor(member, victim, "secret")
	frame.through = six(victim.host)
	for _, to := range []netip.Addr{c.wireguardAddr(victim.host), six(victim.host)} {
		frame.to = netip.AddrPortFrom(to, frame.to.Port())
		if c.injectedAs(c.wireguardAddr(member.host), victim, frame) {
			c.Errorf("a frame to %s with a host's forged WireGuard address arrived", to)
		}
	}
}

// six is the host's own IPv6 address on the LAN.
func six(h *host) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd99::%d", h.vtep().As4()[3]))
}

// injectedAs sends the frame from a machine of the LAN that has the address of a host for
// this long, or for the zero Addr its own, and says whether the victim hears what is in it. The machine takes packets'
// source alone, not the host's place on the LAN: by ARP it neither answers for the host's
// address nor asks from it.
func (c *cluster) injectedAs(member netip.Addr, victim container, frame injection) bool {
	c.Helper()
	plain := c.machine("plain")
	run := func(argv ...string) {
		c.Helper()
		if out, err := plain.Run(c.Context(), argv...); err != nil {
			c.Fatalf("%v: %s", err, out)
		}
	}
	run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
	if to := frame.to.Addr(); frame.through.IsValid() && frame.through != to {
		run("ip", "route", "replace", netip.PrefixFrom(to, to.BitLen()).String(), "via", frame.through.String())
	}
	if member.IsValid() {
		own := netip.PrefixFrom(member, member.BitLen()).String()
		run("ip", "addr", "add", own, "dev", "lo")
		defer run("ip", "addr", "del", own, "dev", "lo")
	}
	frame.from = member
	return c.injected(plain.PID(), victim, frame)
}

func (c *cluster) wireguardAddr(h *host) netip.Addr {
	c.Helper()
	return h.record().WireGuard.Addr()
}

// wireGuard names the device that the host's encrypted tunnels end at.
func (h *host) wireGuard() string {
	h.c.Helper()
	out, err := h.try("ip", "-6", "-o", "addr", "show", "to", h.record().WireGuard.Addr().String())
	words := strings.Fields(out)
	if err != nil || len(words) < 2 {
		h.c.Fatalf("no device has the address: %v: %s", err, out)
	}
	return words[1]
}
