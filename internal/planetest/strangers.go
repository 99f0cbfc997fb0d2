package planetest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
)

// strangers has machines send tunnelled frames for a container. Those of a host with an
// endpoint on the network arrive; those of a machine that is no host, and those of a
// host without an endpoint there, do not.
func strangers(t *testing.T, config Config) {
	if config.TunnelPort == 0 {
		t.Skip("what is sent here is VXLAN, and this mode has another tunnel or none")
	}
	rig := NewRig(t, config, 4)
	network := rig.Network(1)
	to, member, host, stranger := rig.Hosts[0], rig.Hosts[1], rig.Hosts[2], rig.Hosts[3]
	ends := rig.tunnelEnds()
	delete(rig.state.Hosts, stranger.Name)
	a, b := rig.Start(to, network, 2), rig.Start(member, network, 3)
	mustReach(t, a, b)
	for name, test := range map[string]struct {
		from *Host
		want int
	}{
		"a host on the network":         {member, 1},
		"a host that is not on it":      {host, 0},
		"a machine that is not a host":  {stranger, 0},
		"the container's own host":      {to, 0},
		"a host that was on it earlier": {host, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "a host that was on it earlier" {
				rig.Forget(rig.Start(host, network, 4).Endpoint)
				rig.Apply()
				rig.Prune()
			}
			socket := a.sniff(t)
			frame := vxlanPacket(network.VNI, ethernet(a.Endpoint.MAC, fabric.MAC{2: 1}))
			sendUDP(t, test.from.NS, netip.AddrPortFrom(ends[test.from], 0), netip.AddrPortFrom(ends[to], config.TunnelPort), frame)
			if n := heard(t, socket, a.Endpoint.MAC); n != test.want {
				t.Errorf("%d frames arrived, not %d", n, test.want)
			}
		})
	}
	mustReach(t, a, b)
}

// vxlanPacket puts RFC 7348's header before a frame.
func vxlanPacket(vni uint32, frame []byte) []byte {
	const valid = 1 << 27
	header := binary.BigEndian.AppendUint32(nil, valid)
	return append(binary.BigEndian.AppendUint32(header, vni<<8), frame...)
}

func sendUDP(t *testing.T, ns netns.NsHandle, from, to netip.AddrPort, payload []byte) {
	t.Helper()
	Within(t, ns, func() error {
		socket, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer socket.Close()
		_, err = socket.Write(payload)
		return err
	})
}
