package planetest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// timeout is how long a packet is waited for.
	timeout = 5 * time.Second
	// quiet is how long a second copy of it is waited for.
	quiet = 200 * time.Millisecond
)

// multicast sends to everyone, and wants each container on each host to receive it
// once; where hosts exchange no frames, each on the same host alone.
func multicast(t *testing.T, config Config) {
	rig := NewRig(t, config, 3)
	network := rig.Network(1)
	from := rig.Start(rig.Hosts[0], network, 2)
	receivers := []*Container{rig.Start(rig.Hosts[0], network, 3), rig.Start(rig.Hosts[1], network, 4), rig.Start(rig.Hosts[2], network, 5)}
	mustReach(t, append(receivers, from)...) // a port forwards only when the kernel has seen its carrier
	for name, to := range map[string]string{
		"IPv4 broadcast": "172.31.7.255:7701", "IPv4 multicast": "239.1.2.3:7702", "IPv6 multicast": "[ff05::7:7]:7703",
	} {
		t.Run(name, func(t *testing.T) {
			var sockets []*net.UDPConn
			for _, receiver := range receivers {
				sockets = append(sockets, receiver.listen(t, netip.MustParseAddrPort(to)))
			}
			from.say(t, netip.MustParseAddrPort(to), "hello")
			for i, socket := range sockets {
				if config.Routed && receivers[i].Host != from.Host {
					continue // counted below: none
				}
				must(t, socket.SetReadDeadline(time.Now().Add(timeout)))
				heard := make([]byte, 16)
				if n, err := socket.Read(heard); err != nil || string(heard[:n]) != "hello" {
					t.Errorf("%s on %s heard %q, %v", receivers[i].Endpoint.ID, receivers[i].Host.Name, heard[:n], err)
				}
			}
			for i, socket := range sockets {
				if again := count(t, socket); again != 0 {
					t.Errorf("%s on %s heard it %d times more", receivers[i].Endpoint.ID, receivers[i].Host.Name, again)
				}
			}
		})
	}
}

// count says how many datagrams wait, or come yet.
func count(t *testing.T, socket *net.UDPConn) int {
	t.Helper()
	must(t, socket.SetReadDeadline(time.Now().Add(quiet)))
	for n := 0; ; n++ {
		if _, err := socket.Read(make([]byte, 16)); err != nil {
			return n
		}
	}
}

func (c *Container) nic(t *testing.T) *net.Interface {
	t.Helper()
	link, err := c.Handle.Link("eth0")
	must(t, err)
	return &net.Interface{Index: link.Attrs().Index, Name: "eth0"}
}

// listen opens a socket for what is sent to group or to everyone.
func (c *Container) listen(t *testing.T, group netip.AddrPort) *net.UDPConn {
	t.Helper()
	var socket *net.UDPConn
	Within(t, c.NS(), func() (err error) {
		if !group.Addr().IsMulticast() {
			socket, err = net.ListenUDP("udp4", &net.UDPAddr{Port: int(group.Port())})
			return err
		}
		address := net.UDPAddrFromAddrPort(group)
		if group.Addr().Is6() {
			socket, err = net.ListenMulticastUDP("udp6", c.nic(t), address)
			return err
		}
		socket, err = net.ListenUDP("udp4", address)
		if err != nil {
			return err
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return err
		}
		request := &unix.IPMreqn{Multiaddr: group.Addr().As4(), Ifindex: int32(c.nic(t).Index)}
		var joined error
		return errors.Join(raw.Control(func(fd uintptr) {
			joined = unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, request)
		}), joined)
	})
	t.Cleanup(func() { socket.Close() })
	return socket
}

// say sends one datagram from the container's address of to's family.
func (c *Container) say(t *testing.T, to netip.AddrPort, words string) {
	t.Helper()
	from := c.addrs()[0]
	remote := net.UDPAddrFromAddrPort(to)
	if to.Addr().Is6() {
		from, remote.Zone = c.addrs()[1], strconv.Itoa(c.nic(t).Index)
	}
	Within(t, c.NS(), func() error {
		socket, err := net.DialUDP("udp", &net.UDPAddr{IP: from.AsSlice()}, remote)
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write([]byte(words))
		return err
	})
}

// respond has a container ask for the MAC of one elsewhere, and wants a third to
// hear nothing of it. That it would is shown by the broadcast that follows.
func respond(t *testing.T, config Config) {
	if !config.Responds {
		t.Skip("this mode leaves ARP and ND to the wire")
	}
	rig, network, asker, target := Two(t, config)
	bystander := rig.Start(rig.Hosts[1], network, 4)
	mustReach(t, bystander, target) // a port forwards only when the kernel has seen its carrier
	wire := bystander.sniff(t)
	for _, addr := range target.addrs() {
		if !asker.Ping(t, addr) {
			t.Fatalf("%s does not answer", addr)
		}
	}
	asker.say(t, netip.MustParseAddrPort("172.31.7.255:7701"), "the end")
	frame := make([]byte, 2048)
	for {
		n, err := wire.Read(frame)
		if err != nil {
			t.Fatalf("the broadcast did not arrive: %v", err)
		}
		what := kindOf(frame[:n])
		if what == theEnd {
			return
		}
		if what == question && [6]byte(frame[6:12]) == asker.Endpoint.MAC {
			t.Errorf("a question of the other host arrived: % x", frame[:n])
		}
	}
}

type frameKind int

const (
	other frameKind = iota
	question
	theEnd
)

// kindOf knows ARP requests, neighbour solicitations and the closing broadcast.
func kindOf(frame []byte) frameKind {
	const ethernet, udp4, icmp6 = 14, 14 + 20 + 8, 14 + 40
	switch etherType := int(frame[12])<<8 | int(frame[13]); {
	case etherType == unix.ETH_P_ARP && frame[ethernet+7] == 1:
		return question
	case etherType == unix.ETH_P_IPV6 && len(frame) > icmp6 && frame[ethernet+6] == unix.IPPROTO_ICMPV6 && frame[icmp6] == 135:
		return question
	case etherType == unix.ETH_P_IP && len(frame) >= udp4 && string(frame[udp4:]) == "the end":
		return theEnd
	}
	return other
}

// sniff opens a socket for every frame that reaches the container.
func (c *Container) sniff(t *testing.T) *os.File {
	t.Helper()
	var file *os.File
	Within(t, c.NS(), func() error {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // network order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "packet socket")
		return file.SetReadDeadline(time.Now().Add(2 * timeout))
	})
	t.Cleanup(func() { file.Close() })
	return file
}
