package ovs

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// inside runs f on a thread in the namespace ns. Sockets that f opens stay there.
func inside(t *testing.T, ns string, f func() error) {
	t.Helper()
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		target, err := netns.GetFromName(ns)
		if err == nil {
			defer target.Close()
			err = netns.Set(target)
		}
		if err == nil {
			err = f()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

// transfer sends a megabyte from one container to another by TCP, and gives what
// arrived within five seconds.
func transfer(t *testing.T, from, to *container, addr netip.Addr) int64 {
	t.Helper()
	const amount = 1 << 20
	var listener, client net.Conn
	var server net.Listener
	inside(t, to.ns, func() (err error) {
		server, err = net.Listen("tcp", netip.AddrPortFrom(addr, 5001).String())
		return err
	})
	defer server.Close()
	inside(t, from.ns, func() (err error) {
		client, err = net.DialTimeout("tcp", server.Addr().String(), 5*time.Second)
		return err
	})
	defer client.Close()
	listener, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	deadline := time.Now().Add(5 * time.Second)
	if err := errors.Join(listener.SetDeadline(deadline), client.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = client.Write(make([]byte, amount))
		_ = client.(*net.TCPConn).CloseWrite()
	}()
	n, _ := io.Copy(io.Discard, listener)
	return n
}

// hear opens a socket for datagrams to group in c. The empty group is broadcast.
func (c *container) hear(t *testing.T, group string) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	inside(t, c.ns, func() (err error) {
		if group == "" {
			conn, err = net.ListenPacket("udp4", ":5353")
			return err
		}
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err = net.ListenMulticastUDP("udp", eth0, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(group), 5353)))
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends one datagram to the group or broadcast address to.
func (c *container) say(t *testing.T, to, text string) {
	t.Helper()
	inside(t, c.ns, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addr := netip.MustParseAddr(to)
		if addr.Is6() { // the library remembers names of other namespaces
			addr = addr.WithZone(strconv.Itoa(eth0.Index))
		}
		conn, err := net.Dial("udp", netip.AddrPortFrom(addr, 5353).String())
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte(text))
		return errors.Join(err, conn.Close())
	})
}

// heard gives the datagrams that came before one that says end.
func heard(t *testing.T, conn net.PacketConn, end string) []string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var texts []string
	buffer := make([]byte, 1500)
	for {
		n, _, err := conn.ReadFrom(buffer)
		if err != nil {
			t.Errorf("heard %v and then: %v", texts, err)
			return texts
		}
		if string(buffer[:n]) == end {
			return texts
		}
		texts = append(texts, string(buffer[:n]))
	}
}
