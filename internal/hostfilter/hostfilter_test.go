package hostfilter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

func open(t *testing.T, host *lantest.Machine, vtep string) *Filter {
	t.Helper()
	f, err := Open(Config{
		NS: host.NS, VTEP: netip.MustParseAddr(vtep), Tunnels: []uint16{4789, 8472}, Ports: []uint16{2378, 2379}, Log: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// set gives the elements of a set as nft(8) has them.
func set(t *testing.T, host *lantest.Machine, name string) string {
	t.Helper()
	text := host.Run("nft", "-n", "list", "set", "inet", tableName, name)
	_, text, found := strings.Cut(text, "elements = {")
	if !found {
		return ""
	}
	text, _, _ = strings.Cut(text, "}")
	parts := strings.Split(text, ",")
	for i := range parts {
		parts[i] = strings.Join(strings.Fields(parts[i]), " ")
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func TestSetsFollow(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	f := open(t, host, "10.0.0.1")
	want := func(when string, sets map[string]string) {
		t.Helper()
		for name, elements := range sets {
			if got := set(t, host, name); got != elements {
				t.Errorf("%s: set %s has %q, not %q", when, name, got, elements)
			}
		}
	}
	must(t, f.Allow(0x800001, addrs("10.0.0.2", "10.0.0.3")))
	must(t, f.Allow(7, addrs("fd00::2")))
	must(t, f.Allow(8, nil))
	must(t, f.Protect(addrs("fd00::1", "10.0.0.2", "10.0.0.1", "10.0.0.1")))
	want("at first", map[string]string{
		networksSet: "0x00000007, 0x00000008, 0x00800001", senders4Set: "0x00800001 . 10.0.0.2, 0x00800001 . 10.0.0.3", senders6Set: "0x00000007 . fd00::2",
		hosts4Set: "10.0.0.1, 10.0.0.2", hosts6Set: "fd00::1",
	})
	must(t, f.Allow(0x800001, addrs("10.0.0.3", "10.0.0.4")))
	must(t, f.Forget(7))
	must(t, f.Forget(7))
	must(t, f.Protect(addrs("10.0.0.2")))
	after := map[string]string{
		networksSet: "0x00000008, 0x00800001", senders4Set: "0x00800001 . 10.0.0.3, 0x00800001 . 10.0.0.4", senders6Set: "",
		hosts4Set: "10.0.0.2", hosts6Set: "",
	}
	want("after a change", after)
	again := open(t, host, "10.0.0.1")
	want("after a restart", after)
	must(t, again.Allow(0x800001, addrs("10.0.0.4")))
	must(t, again.Forget(8))
	want("by the next process", map[string]string{networksSet: "0x00800001", senders4Set: "0x00800001 . 10.0.0.4"})
}

// TestSealedAddresses holds that an address of a WireGuard device is not used in clear text.
func TestSealedAddresses(t *testing.T) {
	l := newLAN(t)
	l.host.IP(`link add cw-wg0 type bridge
		addr add fd77::1/128 dev cw-wg0 nodad
		link set cw-wg0 up`)
	l.machine.IP("route add fd77::1 via fd00::1")
	f := open(t, l.host, "10.0.0.1")
	heard, answered := listen(t, l.host, 7777), listen(t, l.machine, 7777)
	send := func() {
		t.Helper()
		say(t, l.machine, "[fd77::1]:7777", []byte("in"))
		err := nl.Do(l.host.NS, func() error {
			from, to := &net.UDPAddr{IP: net.ParseIP("fd77::1")}, &net.UDPAddr{IP: net.ParseIP("fd00::2"), Port: 7777}
			socket, err := net.DialUDP("udp", from, to)
			if err != nil {
				return err
			}
			defer socket.Close()
			_, err = socket.Write([]byte("out"))
			return err
		})
		if err != nil && !errors.Is(err, unix.EPERM) { // what a filter of output says
			t.Fatal(err)
		}
	}
	await.Within(t, 10*time.Second, "the machines know each other", func() error {
		say(t, l.machine, "[fd77::1]:7777", []byte("in"))
		if heard(0) == 0 {
			return errors.New("nothing came in yet")
		}
		return nil
	})
	send()
	if in, out := heard(1), answered(1); in != 1 || out != 1 {
		t.Fatalf("before it is sealed, %d came in and %d went out", in, out)
	}
	must(t, f.Seal(addrs("fd77::1")))
	send()
	if in, out := heard(0), answered(0); in != 0 || out != 0 {
		t.Errorf("%d came in and %d went out by another device", in, out)
	}
	if drops, err := f.Drops(); err != nil || len(drops) != 1 || drops[0].Packets != 2 {
		t.Errorf("counted %v, %v", drops, err)
	}
	forge := func() { say(t, l.machine, "[fd00::1]:7777", []byte("forged")) }
	forge()
	if in := heard(1); in != 1 {
		t.Fatalf("from an address that is no host's end %d came in", in)
	}
	must(t, f.SealEnds(addrs("fd00::2")))
	forge()
	if in := heard(0); in != 0 {
		t.Errorf("from another host's end %d came in by another device", in)
	}
}

// TestManySenders holds that the table of a large cluster can be written at once.
func TestManySenders(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	f := open(t, host, "10.0.0.1")
	vteps := make([]netip.Addr, 0, 1000)
	for n := range 1000 {
		vteps = append(vteps, netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}))
	}
	for vni := range uint32(50) {
		must(t, f.Allow(vni+1, vteps))
	}
	began := time.Now()
	must(t, f.repair())
	t.Logf("50,000 senders were written as a whole in %s", time.Since(began))
	began = time.Now()
	must(t, f.Allow(1, vteps[1:]))
	t.Logf("one was taken out in %s", time.Since(began))
	again := open(t, host, "10.0.0.1")
	if diff := cmp.Diff(f.senders, again.senders, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("the next process reads other senders:\n%s", diff)
	}
}

func TestChangesByHandAreMended(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	f := open(t, host, "10.0.0.1")
	must(t, f.Allow(5, addrs("10.0.0.2")))
	must(t, f.Protect(addrs("10.0.0.1")))
	text := func() string { return host.Run("nft", "-n", "-s", "list", "table", "inet", tableName) }
	want := text()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Watch(ctx) }()
	defer func() { cancel(); must(t, <-done) }()
	for _, change := range []string{
		"flush ruleset",
		"delete table inet " + tableName,
		"flush chain inet " + tableName + " senders",
		"insert rule inet " + tableName + " input accept",
		"delete element inet " + tableName + " senders4 { 5 . 10.0.0.2 }",
		"add element inet " + tableName + " senders4 { 5 . 10.0.0.66 }",
		"flush set inet " + tableName + " networks",
	} {
		host.Run("nft", strings.Fields(change)...)
		began := time.Now()
		await.Within(t, 5*time.Second, change+" is mended", func() error {
			out, err := host.Command("nft", "-n", "-s", "list", "table", "inet", tableName)
			if err == nil && out != want {
				err = fmt.Errorf("%s", cmp.Diff(want, out))
			}
			return err
		})
		t.Logf("%s was mended after %s", change, time.Since(began))
	}
}

// lan is a host with a machine beside it and a container on its docker0.
type lan struct{ host, machine, container *lantest.Machine }

func newLAN(t *testing.T) lan {
	t.Helper()
	l := lan{lantest.NewMachine(t, "host"), lantest.NewMachine(t, "machine"), lantest.NewMachine(t, "container")}
	l.host.IP(`link add eth0 type veth peer name eth0 netns ` + l.machine.Path() + `
		addr add 10.0.0.1/24 dev eth0
		addr add fd00::1/64 dev eth0 nodad
		link set eth0 up
		link add docker0 type bridge
		addr add 172.17.0.1/16 dev docker0
		addr add fd17::1/64 dev docker0 nodad
		link set docker0 up
		link add veth0 type veth peer name eth0 netns ` + l.container.Path() + `
		link set veth0 master docker0 up`)
	l.machine.IP(`addr add 10.0.0.2/24 dev eth0
		addr add fd00::2/64 dev eth0 nodad
		link set eth0 up
		route add 172.17.0.0/16 via 10.0.0.1
		route add fd17::/64 via fd00::1`)
	l.container.IP(`addr add 172.17.0.2/16 dev eth0
		addr add fd17::2/64 dev eth0 nodad
		link set eth0 up
		route add default via 172.17.0.1
		route add default via fd17::1`)
	l.host.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	return l
}

// listen counts what comes to a UDP port of a machine.
// listen counts what arrives at a port: it waits for what is wanted, and a moment for more.
func listen(t *testing.T, on *lantest.Machine, port int) func(want int) int {
	t.Helper()
	var socket *net.UDPConn
	must(t, nl.Do(on.NS, func() (err error) {
		socket, err = net.ListenUDP("udp", &net.UDPAddr{Port: port})
		return err
	}))
	t.Cleanup(func() { _ = socket.Close() })
	return func(want int) (count int) {
		for {
			patience := 200 * time.Millisecond
			if count < want {
				patience = 5 * time.Second
			}
			must(t, socket.SetReadDeadline(time.Now().Add(patience)))
			if _, err := socket.Read(make([]byte, 9000)); err != nil {
				return count
			}
			count++
		}
	}
}

func say(t *testing.T, from *lantest.Machine, to string, payload []byte) {
	t.Helper()
	must(t, nl.Do(from.NS, func() error {
		socket, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write(payload)
		return err
	}))
}

// vxlan is a header of RFC 7348 with a VNI, and reserved bits that the kernel ignores.
func vxlan(vni byte) []byte { return []byte{8, 0, 0, 0xff, 0, 0, vni, 0xff, 1, 2, 3} }

func TestOnlySendersDeliver(t *testing.T) {
	for _, vtep := range []struct{ own, sender, other string }{{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, {"fd00::1", "fd00::2", "fd00::3"}} {
		t.Run(vtep.own, func(t *testing.T) {
			l := newLAN(t)
			f := open(t, l.host, vtep.own)
			heard := listen(t, l.host, 4789)
			to := net.JoinHostPort(vtep.own, "4789")
			must(t, f.Allow(5, addrs(vtep.sender)))
			must(t, f.Allow(6, addrs(vtep.other)))
			for name, test := range map[string]struct {
				payload []byte
				want    int
			}{
				"a sender's":                 {vxlan(5), 1},
				"for another network":        {vxlan(6), 0},
				"a network that is not ours": {vxlan(7), 1},
				"no VXLAN":                   {[]byte("hi"), 1},
				"in fragments, a sender's":   {append(vxlan(5), make([]byte, 4000)...), 1},
				"in fragments":               {append(vxlan(6), make([]byte, 4000)...), 0},
			} {
				say(t, l.machine, to, test.payload)
				if got := heard(test.want); got != test.want {
					t.Errorf("%s: %d came through", name, got)
				}
			}
			sendFragments(t, l.machine, netip.MustParseAddr(vtep.sender), netip.MustParseAddr(vtep.own), vxlan(6))
			if got := heard(0); got != 0 {
				t.Errorf("%d came through whose first fragment ends before the VNI", got)
			}
			drops, err := f.Drops()
			if err != nil || len(drops) != 1 || drops[0].Packets != 3 {
				t.Errorf("counted %v, %v", drops, err)
			}
		})
	}
}

func TestContainersDoNotReachHosts(t *testing.T) {
	for _, family := range []struct{ host, machine, through string }{
		{"10.0.0.1", "10.0.0.2", "docker0"}, {"fd00::1", "fd00::2", "docker0"}, {"10.0.0.1", "10.0.0.2", "cwgv-0123456789"},
	} {
		t.Run(family.host+" through "+family.through, func(t *testing.T) {
			l := newLAN(t)
			if family.through != "docker0" { // a gateway's interface is no bridge
				l.host.IP(`link del docker0
					addr add 172.17.0.1/16 dev veth0
					link set veth0 name ` + family.through + `
					link set ` + family.through + ` up`)
			}
			f := open(t, l.host, "10.0.0.1")
			must(t, f.Protect(addrs(family.host, family.machine)))
			for _, on := range []struct {
				machine *lantest.Machine
				address string
			}{{l.host, family.host}, {l.machine, family.machine}} {
				tunnel, else4 := listen(t, on.machine, 8472), listen(t, on.machine, 5353)
				say(t, l.container, net.JoinHostPort(on.address, "8472"), []byte("in"))
				say(t, l.container, net.JoinHostPort(on.address, "5353"), []byte("in"))
				if n := tunnel(0); n != 0 {
					t.Errorf("%s: the tunnel's port heard a container", on.machine.Name)
				}
				if n := else4(1); n != 1 {
					t.Errorf("%s: another port heard %d of a container's packets", on.machine.Name, n)
				}
				for port, want := range map[string]bool{"2378": false, "2379": false, "8080": true} {
					if got := dials(t, l.container, on.machine, on.address, port); got != want {
						t.Errorf("%s: a container reaches TCP port %s: %t", on.machine.Name, port, got)
					}
				}
				if l.machine != on.machine && !dials(t, l.machine, on.machine, on.address, "2378") {
					t.Error("a machine of the LAN does not reach the join port")
				}
			}
			drops, err := f.Drops()
			if err != nil || len(drops) != 2 {
				t.Errorf("counted %v, %v", drops, err)
			}
		})
	}
}

// dials says whether a connection comes about within half a second.
func dials(t *testing.T, from, on *lantest.Machine, address, port string) bool {
	t.Helper()
	var listener net.Listener
	must(t, nl.Do(on.NS, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(address, port))
		return err
	}))
	defer listener.Close()
	return nl.Do(from.NS, func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, port), 500*time.Millisecond)
		if err != nil {
			return err
		}
		return conn.Close()
	}) == nil
}

func TestMachinesBehindALANBridgeReachHosts(t *testing.T) {
	l := newLAN(t)
	f := open(t, l.host, "172.17.0.1") // the host's own address is on the bridge
	must(t, f.Protect(addrs("172.17.0.1", "10.0.0.2")))
	if !dials(t, l.container, l.machine, "10.0.0.2", "2378") || !dials(t, l.container, l.host, "172.17.0.1", "2378") {
		t.Error("a machine of the LAN does not reach the join port")
	}
}

func TestABridgeWithANICIsTheLAN(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	host.IP(`link add docker0 type bridge
		link add veth0 type veth peer name peer0
		link set veth0 master docker0
		link add br-vtep type bridge
		addr add 10.0.0.1/24 dev br-vtep
		link add cw-eth0 type bridge`)
	host.Run("ip", "link", "set", "cw-eth0", "alias", underlayMark+"eth0")
	f := open(t, host, "10.0.0.1")
	if got := set(t, host, lansSet); got != `"br-vtep", "cw-eth0"` {
		t.Errorf("LANs are %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Watch(ctx) }()
	defer func() { cancel(); must(t, <-done) }()
	host.IP(`link add br0 type bridge
		link add vx0 type vxlan id 9 remote 10.0.0.9 dstport 4790
		link set vx0 master br0
		link del cw-eth0`)
	await.Within(t, 5*time.Second, "a bridge with another port than a guest's is the LAN", func() error {
		if got := set(t, host, lansSet); got != `"br-vtep", "br0"` {
			return fmt.Errorf("LANs are %s", got)
		}
		return nil
	})
}
