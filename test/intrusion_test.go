package test

import (
	"cmp"
	wire "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
)

// intrusion has strangers and containers try to get into a network through its tunnels,
// and at the ports of causeway.
func intrusion(c *cluster) {
	c.network("guarded", "--subnet=192.168.90.0/24")
	c.network("elsewhere", "--subnet=192.168.91.0/24")
	victim, member := c.host(1).run("victim", "--net=guarded"), c.host(2).run("member", "--net=guarded")
	member.pings(victim.addr("guarded"))
	frame := c.frameFor(member, victim, "guarded")
	if !c.injected(c.host(2).PID(), victim, frame) {
		c.Error("the frame of a host with a container on the network did not arrive")
	}
	containers := []container{victim}
	for _, from := range c.intruders("elsewhere") {
		if c.injected(from.pid, victim, frame) {
			c.Errorf("the frame of %s arrived", from.name)
		}
		if from.host != nil {
			containers = append(containers, from.container)
		}
	}
	var hosts []netip.Addr
	for n := range c.lab.Hosts() {
		hosts = append(hosts, c.host(n+1).vtep())
	}
	for _, from := range containers {
		if open := openPorts(c, from.pid(), hosts...); len(open) > 0 {
			c.Errorf("%s reaches %v", from.name, open)
		}
	}
	if open := openPorts(c, c.machine("plain").PID(), hosts[0]); !slices.Contains(open, netip.AddrPortFrom(hosts[0], 2378)) {
		c.Error("a machine of the LAN that may join does not reach the join port")
	}
	member.pings(victim.addr("guarded"))
	status, err := c.host(2).try("causeway", "status")
	if err != nil || !strings.Contains(status, "from a container to a tunnel's port on a host") || !strings.Contains(status, "from a container to a port of causeway on a host") {
		c.Errorf("status does not tell of what was dropped: %v\n%s", err, status)
	}
}

// intruder is one who has no business in a network's tunnel; its container is empty for
// a machine.
type intruder struct {
	name string
	container
	pid int
}

// intruders are a machine of the LAN, and containers beside the network; one of them is on
// another.
func (c *cluster) intruders(another string) []intruder {
	c.Helper()
	all := []intruder{{name: "a machine of the LAN", pid: c.machine("plain").PID()}}
	for _, at := range []struct {
		name string
		container
	}{
		{"a container on docker0", c.host(2).run("bridged")},
		{"a container behind its network's gateway", c.host(2).run("outsider", "--net="+another)},
		{"a container on docker_gwbridge", c.host(2).run("published", "--net="+another, "-p", "8090:80")},
		{"a container of the victim's own host", c.host(1).run("near")},
	} {
		all = append(all, intruder{at.name, at.container, at.pid()})
	}
	return all
}

// vtep is the address that tunnels to the host end at.
func (h *host) vtep() netip.Addr {
	h.c.Helper()
	return h.record().VTEP
}

// record is what the cluster knows of the host.
func (h *host) record() (found agent.Host) {
	h.c.Helper()
	eventually(h.c.T, "status lists "+h.Name(), func() error {
		s := h.c.status(h)
		for _, found = range s.Hosts {
			if found.Name == h.Name() {
				return nil
			}
		}
		return errors.New(cmp.Or(s.Store, "it does not"))
	})
	return found
}

func (c *cluster) status(h *host) (s agent.Status) {
	c.Helper()
	out, err := h.try("causeway", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		c.Fatal(err)
	}
	return s
}

const (
	tunnelPort    = 4789
	tunnelPortOVS = 8472
	intruderPort  = 7777
)

// placeholder is what [cluster.injected] puts words of its own in place of.
const placeholder = "injected"

// injection is a frame for a container as its host's tunnel takes it.
type injection struct {
	to netip.AddrPort
	// from is the sender's own address; zero: what its routes say.
	from netip.Addr
	// through is the host on the LAN that to is behind; zero: it is on the LAN.
	through netip.Addr
	payload []byte
}

// frameFor is a datagram from a container for another one's port 7777, in VXLAN (RFC 7348).
func (c *cluster) frameFor(member, victim container, network string) injection {
	c.Helper()
	port, vni := uint16(tunnelPort), uint32(0)
	for _, n := range c.status(victim.host).Networks {
		if n.Name != network {
			continue
		}
		vni = n.VNI
		if n.Mode == fabric.ModeOVS && !n.Encrypted {
			port = tunnelPortOVS
		}
		if n.Mode == fabric.ModeRouted { // to the host's end of the encrypted ones' tunnel
			frame := c.frameTo(netip.AddrPortFrom(victim.vtep(), port), fabric.SealedVNI, member, victim, network)
			mac := fabric.DeriveMAC(fabric.SealedDevice, victim.vtep())
			copy(frame.payload[8:], mac[:])
			return frame
		}
	}
	return c.frameTo(netip.AddrPortFrom(victim.vtep(), port), vni, member, victim, network)
}

// frameTo is frameFor on a network of that VNI, for a tunnel that ends there.
func (c *cluster) frameTo(tunnel netip.AddrPort, vni uint32, member, victim container, network string) injection {
	c.Helper()
	mac, err := fabric.ParseMAC(victim.mac(network))
	if err != nil {
		c.Fatal(err)
	}
	from, to := netip.MustParseAddr(member.addr(network)), netip.MustParseAddr(victim.addr(network))
	const valid = 1 << 27
	payload := wire.BigEndian.AppendUint32(nil, valid)
	payload = wire.BigEndian.AppendUint32(payload, vni<<8)
	payload = append(payload, mac[:]...)
	payload = append(payload, 0x02, 0, 0, 0, 0, 0x66, 0x08, 0x00)
	payload = append(payload, datagram(from, to, intruderPort, placeholder)...)
	return injection{to: tunnel, payload: payload}
}

// datagram is a UDP packet in IPv4, without UDP's checksum (RFC 768).
func datagram(from, to netip.Addr, port uint16, words string) []byte {
	const header, udp, ttl = 20, 8, 64
	packet := []byte{0x45, 0, 0, byte(header + udp + len(words)), 0, 0, 0, 0, ttl, 17, 0, 0}
	packet = append(append(packet, from.AsSlice()...), to.AsSlice()...)
	sum := uint32(0)
	for i := 0; i < len(packet); i += 2 {
		sum += uint32(wire.BigEndian.Uint16(packet[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	wire.BigEndian.PutUint16(packet[10:], ^uint16(sum))
	packet = wire.BigEndian.AppendUint16(packet, port)
	packet = wire.BigEndian.AppendUint16(packet, port)
	packet = wire.BigEndian.AppendUint16(packet, uint16(udp+len(words)))
	return append(append(packet, 0, 0), words...)
}

// injected sends the frame from the namespace of a process, without any privilege, and
// says whether the victim hears what is in it: words of this time alone, for those of the
// time before may still be on their way.
func (c *cluster) injected(pid int, victim container, frame injection) bool {
	c.Helper()
	words := fmt.Sprintf("%0*x", len(placeholder), rand.Uint32())
	frame.payload = append(slices.Clone(frame.payload[:len(frame.payload)-len(words)]), words...)
	return c.getsWords(victim, words, func() error {
		return inside(pid, func() error {
			var from *net.UDPAddr
			if frame.from.IsValid() {
				from = net.UDPAddrFromAddrPort(netip.AddrPortFrom(frame.from, 0))
			}
			socket, err := net.DialUDP("udp", from, net.UDPAddrFromAddrPort(frame.to))
			if err != nil {
				return err
			}
			defer socket.Close()
			_, err = socket.Write(frame.payload)
			return err
		})
	})
}

// getsWords sends three times, and says whether the victim gets the words at its port 7777.
func (c *cluster) getsWords(victim container, words string, send func() error) bool {
	c.Helper()
	var ear *net.UDPConn
	err := inside(victim.pid(), func() (err error) {
		ear, err = net.ListenUDP("udp4", &net.UDPAddr{Port: intruderPort})
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer ear.Close()
	for range 3 {
		if err := send(); err != nil {
			c.Fatal(err)
		}
	}
	if err := ear.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		c.Fatal(err)
	}
	heard := make([]byte, 64)
	for {
		n, err := ear.Read(heard)
		if err != nil || string(heard[:n]) == words {
			return err == nil
		}
	}
}

// openPorts are causeway's TCP ports of hosts that take a connection from the
// namespace of a process. All are tried at once: one that drops takes half a second.
func openPorts(c *cluster, pid int, hosts ...netip.Addr) (open []netip.AddrPort) {
	c.Helper()
	var wait sync.WaitGroup
	var mu sync.Mutex
	for _, host := range hosts {
		for _, port := range []uint16{2378, 2379, 2380} {
			to := netip.AddrPortFrom(host, port)
			wait.Go(func() {
				err := inside(pid, func() error {
					conn, err := net.DialTimeout("tcp", to.String(), 500*time.Millisecond)
					if err != nil {
						return err
					}
					return conn.Close()
				})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					open = append(open, to)
				} else if !strings.Contains(err.Error(), "timeout") && !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "unreachable") {
					c.Error(fmt.Errorf("dial %s: %w", to, err))
				}
			})
		}
	}
	wait.Wait()
	return open
}
