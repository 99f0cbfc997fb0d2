package test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// broadcastAndMulticast has a datagram to a group and one to the subnet's
// broadcast address reach the containers on the other hosts.
func broadcastAndMulticast(c *cluster) {
	c.network("shout", "--subnet=192.168.40.0/24")
	sender := c.host(1).run("shouter", "--net=shout")
	var listeners []container
	for n := range c.lab.Hosts() {
		listeners = append(listeners, c.host(n+1).run(fmt.Sprint("listener", n+1), "--net=shout"))
	}
	for _, to := range []netip.AddrPort{
		netip.MustParseAddrPort("224.0.0.251:5353"),
		netip.MustParseAddrPort("192.168.40.255:5354"),
		netip.MustParseAddrPort("255.255.255.255:5355"),
	} {
		for _, listener := range listeners {
			c.hears(sender, listener, to)
		}
	}
}

// hears sends datagrams until one arrives.
func (c *cluster) hears(sender, listener container, to netip.AddrPort) {
	c.Helper()
	var in, out *net.UDPConn
	err := inside(listener.pid(), func() (err error) {
		if to.Addr().IsMulticast() {
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			in, err = net.ListenMulticastUDP("udp4", eth0, net.UDPAddrFromAddrPort(to))
			return err
		}
		in, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(to.Port())})
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer in.Close()
	err = inside(sender.pid(), func() error {
		dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
				if failed == nil {
					failed = unix.BindToDevice(int(fd), "eth0")
				}
			})
			if err != nil {
				return err
			}
			return failed
		}}
		conn, err := dialer.DialContext(c.Context(), "udp4", to.String())
		if err == nil {
			out = conn.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(c.Context(), 10*time.Second)
	defer cancel()
	buffer := make([]byte, 64)
	for ctx.Err() == nil {
		if _, err := out.Write([]byte("hello")); err != nil {
			c.Fatalf("%s cannot send to %s: %v", sender.name, to, err)
		}
		if err := in.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			c.Fatal(err)
		}
		if n, _, err := in.ReadFromUDP(buffer); err == nil && string(buffer[:n]) == "hello" {
			return
		}
	}
	c.Errorf("%s on %s does not hear what goes to %s", listener.name, listener.Name(), to)
}
