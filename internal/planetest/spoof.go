package planetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
)

// counter is a plane that counts what it drops at the ports, by endpoint ID.
type counter interface {
	Drops(ctx context.Context) (map[string]fabric.Drops, error)
}

// onOneWire is a rig of two hosts with a container on one network, 2, and another whose
// frames reach it, 3: on the other host, or on the same one where hosts exchange none.
func onOneWire(t *testing.T, config Config) (rig *Rig, network fabric.Network, a, b *Container) {
	t.Helper()
	rig = NewRig(t, config, 2)
	network = rig.Network(1)
	other := rig.Hosts[1]
	if config.Routed {
		other = rig.Hosts[0]
	}
	return rig, network, rig.Start(rig.Hosts[0], network, 2), rig.Start(other, network, 3)
}

// spoof has a container send what it must not, to one beside it and to one on the
// other host. Nothing of it may arrive, and all is counted.
func spoof(t *testing.T, config Config) {
	rig, network, attacker, far := onOneWire(t, config)
	near := rig.Start(rig.Hosts[0], network, 4)
	mustReach(t, attacker, near, far)
	victims := []*Container{near, far}
	for _, victim := range victims {
		for _, attack := range Attacks(attacker.Endpoint, victim.Endpoint) {
			t.Run(victim.Endpoint.ID+" "+attack.Name, func(t *testing.T) {
				before := dropped(t, rig, attacker)
				if got := arrivals(t, attacker, victims, attack.Frame); len(got) > 0 {
					t.Errorf("it reaches %s", got)
				}
				await.Within(t, 2*timeout, "it is counted as dropped, once", func() error { // a switch counts in steps
					if after := dropped(t, rig, attacker); after != before+1 {
						return fmt.Errorf("%d frames were", after-before)
					}
					return nil
				})
			})
		}
	}
	mustReach(t, attacker, near, far)
}

// with is config with networks that are changed.
func with(config Config, change func(*fabric.Network)) Config {
	plain := config.Network
	config.Network = func(number int) fabric.Network {
		network := plain(number)
		change(&network)
		return network
	}
	return config
}

// unguarded wants the frames of an attack to arrive on a network that has -o spoofing=allow.
func unguarded(t *testing.T, config Config) {
	open := with(config, func(network *fabric.Network) { network.Spoofing = true })
	_, _, attacker, far := onOneWire(t, open)
	mustReach(t, attacker, far)
	stolen := far.Endpoint.Addrs[0].Addr().Next()
	frame := ipFrame(far.Endpoint.MAC, attacker.Endpoint.MAC, stolen, far.addrs()[0], unix.IPPROTO_UDP, udpOf(7, 7702, "as another"))
	if got := arrivals(t, attacker, []*Container{far}, frame); len(got) != 1 {
		t.Error("it does not arrive")
	}
}

// float has an address, with a virtual router's MAC, on one container after another.
func float(t *testing.T, config Config) {
	virtual := fabric.MAC{0, 0, 0x5e, 0, 1, 7}
	floating := netip.MustParseAddr("172.31.7.200")
	allowing := with(config, func(network *fabric.Network) {
		network.Allow = []netip.Addr{floating, netip.MustParseAddr("fd31:7::200")}
	})
	rig, network, a, b := onOneWire(t, allowing)
	neighbour := rig.Start(rig.Hosts[0], network, 4)
	mustReach(t, a, b, neighbour)
	for _, holder := range []*Container{a, b, a} {
		for _, mac := range []fabric.MAC{holder.Endpoint.MAC, virtual} {
			holder.hold(t, floating, mac)
			for _, from := range []*Container{a, b, neighbour} {
				if from != holder && !from.Ping(t, floating) {
					t.Errorf("%s does not reach it on %s, with MAC %s", from.Endpoint.ID, holder.Endpoint.ID, mac)
				}
			}
			must(t, holder.Remove("vrrp"))
		}
	}
	if got := arrivals(t, a, []*Container{b}, ipFrame(b.Endpoint.MAC, a.Endpoint.MAC, neighbour.addrs()[0], b.addrs()[0], unix.IPPROTO_UDP, udpOf(7, 7703, "as another"))); len(got) > 0 {
		t.Error("what does not float is not kept from being spoofed")
	}
}

// hold gives the container an address, as keepalived does: on a device above eth0 with
// the MAC, and told to all.
func (c *Container) hold(t *testing.T, addr netip.Addr, mac fabric.MAC) {
	t.Helper()
	device := []string{"link", "add", "vrrp", "link", "eth0", "address", mac.String(), "type", "macvlan", "mode", "bridge"}
	if mac == c.Endpoint.MAC {
		device = []string{"link", "add", "vrrp", "type", "bridge"} // any device: eth0 answers
	}
	for _, command := range [][]string{
		device, {"address", "add", addr.String() + "/32", "dev", "vrrp"}, {"link", "set", "vrrp", "up"},
	} {
		if out, err := Output(t, c.NS(), "ip", command...); err != nil {
			t.Fatalf("ip %s: %s", command, out)
		}
	}
	ignore := "0"
	if mac != c.Endpoint.MAC {
		ignore = "1"
	}
	if out, err := Output(t, c.NS(), "sysctl", "-q", "-w", "net.ipv4.conf.eth0.arp_ignore="+ignore, "net.ipv4.conf.eth0.arp_announce=2"); err != nil {
		t.Fatal(out)
	}
	send(t, c.wire(t), arpFrame(mac, 1, mac, addr, addr))
}

// arrivals sends a frame, and names the containers that get it. A broadcast of the
// sender's own comes after it: when that has arrived, the frame would have.
func arrivals(t *testing.T, from *Container, at []*Container, frame []byte) (names []string) {
	t.Helper()
	var sockets []*os.File
	for _, container := range at {
		sockets = append(sockets, container.sniff(t))
	}
	wire := from.wire(t)
	end := ipFrame(broadcast(), from.Endpoint.MAC, from.addrs()[0], netip.MustParseAddr("172.31.7.255"), unix.IPPROTO_UDP, udpOf(4000, 7704, "the end"))
	send(t, wire, frame)
	send(t, wire, end)
	for i, socket := range sockets {
		heard := hears(t, socket, frame, end)
		if !heard { // a switch in user space may swap two that come at once
			send(t, wire, end)
			heard = hears(t, socket, frame, end)
		}
		if heard {
			names = append(names, at[i].Endpoint.ID)
		}
		must(t, socket.Close())
	}
	return names
}

// hears says whether frame arrives before end.
func hears(t *testing.T, socket *os.File, frame, end []byte) bool {
	t.Helper()
	must(t, socket.SetReadDeadline(time.Now().Add(2*timeout)))
	for got := make([]byte, 2048); ; {
		n, err := socket.Read(got)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("what the container may send does not arrive")
		}
		must(t, err)
		if bytes.HasPrefix(got[:n], frame) {
			return true
		}
		if bytes.HasPrefix(got[:n], end) {
			return false
		}
	}
}

// dropped counts what the container's host has dropped of it.
func dropped(t *testing.T, rig *Rig, c *Container) (count uint64) {
	t.Helper()
	drops, err := c.Host.Plane.(counter).Drops(t.Context())
	must(t, err)
	for _, n := range drops[c.Endpoint.ID] {
		count += n
	}
	return count
}

// storm has a container broadcast without end on a network with -o broadcast-rate=.
func storm(t *testing.T, config Config) {
	const rate, frames = 100, 5000
	limited := with(config, func(network *fabric.Network) { network.BroadcastRate = rate })
	_, _, a, b := onOneWire(t, limited)
	mustReach(t, a, b)
	socket, wire := b.sniff(t), a.wire(t)
	broadcastOf := func(words string) []byte {
		return ipFrame(broadcast(), a.Endpoint.MAC, a.addrs()[0], netip.MustParseAddr("172.31.7.255"), unix.IPPROTO_UDP, udpOf(4000, 7705, words))
	}
	began := time.Now()
	for range frames {
		send(t, wire, broadcastOf("storm"))
	}
	took := time.Since(began)
	end := ipFrame(b.Endpoint.MAC, a.Endpoint.MAC, a.addrs()[0], b.addrs()[0], unix.IPPROTO_UDP, udpOf(4000, 7705, "the end"))
	again := time.NewTicker(quiet) // a switch in user space loses what its socket has no room for
	defer again.Stop()
	done := make(chan struct{})
	var resend errgroup.Group
	resend.Go(func() error {
		for {
			_, _ = unix.Write(wire, end)
			select {
			case <-again.C:
			case <-done:
				return nil
			}
		}
	})
	count := 0
	for hears(t, socket, broadcastOf("storm"), end) {
		count++
	}
	close(done)
	must(t, resend.Wait())
	// The bucket holds a second's worth, and one frame more.
	if most := rate + int(took.Seconds()*rate) + 2; count > most || count < rate/2 {
		t.Errorf("of %d broadcasts in %s arrived %d, want at most %d", frames, took, count, most)
	}
	mustReach(t, b, a)
}
