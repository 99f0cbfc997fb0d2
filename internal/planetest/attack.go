package planetest

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// impersonate has a container send with the MAC of another, and wants that one
// to get all of its packets, and the impostor none of them.
func impersonate(t *testing.T, config Config) {
	if config.OneNetwork {
		t.Skip("the wire of this mode learns where a MAC is")
	}
	rig := NewRig(t, config, 2)
	network := rig.Network(1)
	victim, neighbour := rig.Start(rig.Hosts[0], network, 2), rig.Start(rig.Hosts[0], network, 3)
	remote := rig.Start(rig.Hosts[1], network, 4)
	mustReach(t, victim, neighbour, remote)
	for name, pair := range map[string]struct{ impostor, peer *Container }{
		"through the tunnel": {impostor: remote, peer: neighbour},
		"from the same host": {impostor: neighbour, peer: remote},
	} {
		t.Run(name, func(t *testing.T) {
			stolen := pair.impostor.sniff(t)
			wire := pair.impostor.wire(t)
			forged := ethernet(broadcast(), victim.Endpoint.MAC)
			send(t, wire, forged)
			ping, out := start(t, pair.peer.NS(), "ping", "-n", "-q", "-c", "300", "-i", "0.005", "-W", "2", victim.addrs()[0].String())
			done := make(chan error, 1)
			go func() { done <- ping.Wait() }()
			beat := time.NewTicker(time.Millisecond)
			defer beat.Stop()
			for {
				select {
				case <-beat.C:
					send(t, wire, forged)
					continue
				case err := <-done:
					if err != nil || !strings.Contains(out.String(), " 300 received") {
						t.Errorf("the owner of the MAC lost packets: %v\n%s", err, out)
					}
				}
				break
			}
			if n := heard(t, stolen, victim.Endpoint.MAC); n != 0 {
				t.Errorf("the impostor got %d frames of the victim's", n)
			}
		})
	}
}

// heard counts the frames for to that wait in a socket of [Container.sniff].
func heard(t *testing.T, socket *os.File, to fabric.MAC) (count int) {
	t.Helper()
	must(t, socket.SetReadDeadline(time.Now().Add(quiet)))
	for frame := make([]byte, 2048); ; {
		if _, err := socket.Read(frame); errors.Is(err, os.ErrDeadlineExceeded) {
			return count
		} else if err != nil {
			t.Fatal(err)
		}
		if fabric.MAC(frame[:6]) == to {
			count++
		}
	}
}

// manyMACs has a container send from 100,000 MACs, and wants the tables to stay
// small and another network to start containers as before.
func manyMACs(t *testing.T, config Config) {
	if config.OneNetwork {
		t.Skip("the wire of this mode learns where a MAC is")
	}
	const macs, few = 100_000, 100
	rig, network, a, b := Two(t, config)
	mustReach(t, a, b)
	host := rig.Hosts[0]
	second := rig.Network(2)
	timed := func(number int) time.Duration {
		began := time.Now()
		host.Plane.Invalidate()
		rig.Start(host, second, number)
		return time.Since(began)
	}
	before := timed(9)
	a.SendFromMACs(t, macs)
	t.Logf("a container of another network starts in %s, before %s", timed(10), before)
	for _, host := range rig.Hosts {
		if config.MACs == nil {
			break // a switch by flows has no such table
		}
		if n := config.MACs(t, host, rig.Segment(host, network)); n > few {
			t.Errorf("%s has %d MACs in its tables", host.Name, n)
		}
	}
	mustReach(t, a, b)
}

// SendFromMACs broadcasts a frame from each of count MACs.
func (c *Container) SendFromMACs(t *testing.T, count int) {
	t.Helper()
	wire, frame := c.wire(t), ethernet(broadcast(), fabric.MAC{0x02, 0xee})
	for n := range count {
		binary.BigEndian.PutUint32(frame[8:], uint32(n))
		send(t, wire, frame)
	}
}

func broadcast() fabric.MAC { return fabric.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// ethernet is an empty frame of the EtherType for local experiments (IEEE 802-2014 §9.2.4).
func ethernet(to, from fabric.MAC) []byte {
	frame := make([]byte, 60)
	copy(frame, to[:])
	copy(frame[6:], from[:])
	binary.BigEndian.PutUint16(frame[12:], 0x88b5)
	return frame
}

// wire opens a socket that sends frames as they are from the container.
func (c *Container) wire(t *testing.T) int {
	t.Helper()
	var socket int
	Within(t, c.NS(), func() (err error) {
		socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	t.Cleanup(func() { must(t, unix.Close(socket)) })
	must(t, unix.Bind(socket, &unix.SockaddrLinklayer{Ifindex: c.nic(t).Index}))
	return socket
}

func send(t *testing.T, wire int, frame []byte) {
	t.Helper()
	for {
		_, err := unix.Write(wire, frame)
		if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINTR) {
			continue
		}
		must(t, err)
		return
	}
}
