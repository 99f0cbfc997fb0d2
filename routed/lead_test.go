package routed

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/fastpath"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

// direct are networks whose hosts are neighbours, by IPv6: IPv4 has next hops of IPv6.
func direct(change func(*fabric.Network)) planetest.Config {
	config := suite("fd99::", fabric.ViaDirect)
	make := config.Network
	config.Network = func(number int) fabric.Network {
		network := make(number)
		change(&network)
		return network
	}
	return config
}

// connect opens a connection from one container to another, which sends back what it gets;
// an error when nobody answers within two seconds.
func connect(t *testing.T, from, to *planetest.Container, addr netip.Addr) (net.Conn, error) {
	t.Helper()
	var listener net.Listener
	planetest.Within(t, to.NS(), func() (err error) {
		listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	accepted := make(chan net.Conn, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			close(accepted)
			return
		}
		accepted <- conn
		close(accepted)
		_, _ = io.Copy(conn, conn) // the other end sees what is missing
	}()
	t.Cleanup(func() {
		listener.Close()
		for conn := range accepted {
			conn.Close()
		}
		<-done
	})
	var conn net.Conn
	err := nl.Do(from.NS(), func() (err error) {
		dialer := net.Dialer{Timeout: 2 * time.Second}
		conn, err = dialer.DialContext(t.Context(), "tcp", listener.Addr().String())
		return err
	})
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

func connected(t *testing.T, from, to *planetest.Container, addr netip.Addr) net.Conn {
	t.Helper()
	conn, err := connect(t, from, to, addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// exchange sends half a megabyte there and back.
func exchange(conn net.Conn) error {
	const size = 1 << 19
	text := strings.Repeat("0123456789abcdef", size/16)
	failed := make(chan error, 1)
	go func() {
		_, err := io.WriteString(conn, text)
		failed <- err
	}()
	got := make([]byte, size)
	deadline := conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	_, err := io.ReadFull(conn, got)
	if err = errors.Join(deadline, err); err == nil && string(got) != text {
		err = errors.New("what came back is not what was sent")
	}
	if err != nil {
		conn.Close() // which ends the sender
	}
	return errors.Join(err, <-failed)
}

// exchangeAll has all connections carry what they are given.
func exchangeAll(t *testing.T, when string, conns []net.Conn) {
	t.Helper()
	for _, conn := range conns {
		if err := exchange(conn); err != nil {
			t.Errorf("%s: %s: %v", when, conn.RemoteAddr(), err)
		}
	}
}

func ledPast(host *planetest.Host, network fabric.Network) fastpath.Counted {
	return host.Plane.(*Plane).LedPast(network.ID)
}

// TestConnectionsAreLedPast has those of both families, between hosts and on one, pass the
// host's forwarding once they are open: a filter there does not see them any more.
func TestConnectionsAreLedPast(t *testing.T) {
	rig, network, a, b := planetest.Two(t, direct(func(*fabric.Network) {}))
	c := rig.Start(rig.Hosts[0], network, 4)
	rig.Apply()
	rig.Prune()
	var open []net.Conn
	for _, to := range []*planetest.Container{b, c} {
		for _, addr := range to.Endpoint.Addrs {
			conn := connected(t, a, to, addr.Addr())
			if err := exchange(conn); err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			open = append(open, conn)
		}
	}
	for number, host := range rig.Hosts {
		run(t, host, "nft add table inet user", "nft add chain inet user forward { type filter hook forward priority -200 ; }",
			"nft add rule inet user forward meta l4proto tcp drop")
		got := ledPast(host, network)
		if got.InPackets == 0 || got.OutBytes < 1<<20 || (got.LocalBytes > 1<<20) != (number == 0) {
			t.Errorf("%s has led past %+v", host.Name, got)
		}
	}
	exchangeAll(t, "as it was opened", open)
	before := ledPast(rig.Hosts[0], network)
	rig.Restart(rig.Hosts[0])
	exchangeAll(t, "after a restart", open)
	if after := ledPast(rig.Hosts[0], network); after.OutBytes <= before.OutBytes || after.LocalBytes <= before.LocalBytes {
		t.Errorf("it has led past %+v before the restart, and %+v after it", before, after)
	}
	var unanswered net.Error
	if _, err := connect(t, a, b, b.Endpoint.Addrs[0].Addr()); !errors.As(err, &unanswered) || !unanswered.Timeout() {
		t.Errorf("a connection that the host's filter drops: %v", err)
	}
	rig.Forget(b.Endpoint)
	rig.Apply(rig.Hosts[0])
	if out := run(t, rig.Hosts[0], "tc filter show dev eth0 ingress"); !strings.Contains(out, "causeway_fast") {
		t.Errorf("before the prune eth0 has %q", out)
	}
	rig.Prune()
	if out := run(t, rig.Hosts[0], "tc filter show dev eth0 ingress", "tc filter show dev eth0 egress"); out != "" {
		t.Errorf("eth0, which leads to nobody, has %q", out)
	}
}

// TestWhatTheStackKeeps are networks whose packets it alone treats as they ask for.
func TestWhatTheStackKeeps(t *testing.T) {
	for name, config := range map[string]planetest.Config{
		"encrypted": sealedSuite(),
		"rate":      direct(func(n *fabric.Network) { n.Rate = 1_000_000_000 }),
		"spoofing":  direct(func(n *fabric.Network) { n.Spoofing = true }),
		"wrapped":   suite("10.99.0.0", fabric.ViaVXLAN),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rig, network, a, b := planetest.Two(t, config)
			rig.Prune()
			for _, addr := range b.Endpoint.Addrs {
				if err := exchange(connected(t, a, b, addr.Addr())); err != nil {
					t.Errorf("%s: %v", addr, err)
				}
			}
			for _, host := range rig.Hosts {
				if got := ledPast(host, network); got != (fastpath.Counted{}) {
					t.Errorf("%s has led past %+v", host.Name, got)
				}
			}
		})
	}
}

// TestStackOnly has a host that was told so forward what was led past, also of connections
// that are open.
func TestStackOnly(t *testing.T) {
	config := direct(func(*fabric.Network) {})
	stackOnly, open := false, config.New
	config.New = func(t *testing.T, host *planetest.Host) planetest.Plane {
		plane := open(t, host).(*Plane)
		plane.StackOnly = stackOnly
		return plane
	}
	rig, network, a, b := planetest.Two(t, config)
	rig.Prune()
	var conns []net.Conn
	for _, addr := range b.Endpoint.Addrs {
		conns = append(conns, connected(t, a, b, addr.Addr()))
	}
	exchangeAll(t, "led past", conns)
	host := rig.Hosts[0]
	if ledPast(host, network) == (fastpath.Counted{}) {
		t.Fatal("nothing was led past")
	}
	stackOnly = true
	rig.Restart(host)
	rig.Prune()
	exchangeAll(t, "forwarded by the stack", conns)
	if got := ledPast(host, network); got != (fastpath.Counted{}) {
		t.Errorf("it has led past %+v", got)
	}
	for _, link := range []string{"eth0", nl.HostEnd(a.Endpoint.ID)} {
		if out := run(t, host, "tc filter show dev "+link+" ingress"); strings.Contains(out, "causeway_fast") {
			t.Errorf("%s has %q", link, out)
		}
	}
}

// TestSmallerWire has the host tell containers that their packets are too large, and lead
// past those that are not.
func TestSmallerWire(t *testing.T) {
	rig, network, a, b := planetest.Two(t, direct(func(*fabric.Network) {}))
	rig.Prune()
	for _, host := range rig.Hosts {
		run(t, host, "ip link set eth0 mtu 1400")
		host.Plane.Invalidate()
	}
	rig.Apply(rig.Hosts...)
	for _, addr := range b.Endpoint.Addrs {
		if err := exchange(connected(t, a, b, addr.Addr())); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if got := ledPast(rig.Hosts[0], network); got.OutBytes < 1<<19 {
		t.Errorf("it has led past %+v", got)
	}
}
