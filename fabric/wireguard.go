package fabric

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// WireGuard is a host's end of encrypted networks: one device.
type WireGuard struct {
	// Key is its public key, as wg(8) prints it: 32 bytes in base64.
	Key string `json:"key"`
	// Port is the UDP port at the host's VTEP.
	Port uint16 `json:"port"`
}

// Ends are a host's ends of encrypted networks. Others send to the first, and take what
// comes from each.
type Ends struct {
	WireGuard WireGuard `json:"wireguard,omitzero"`
	// Next is told while its key is rotated, before anything is sent under it, and Last
	// from then on until nothing is sent there.
	Next WireGuard `json:"wireguard_next,omitzero"`
	Last WireGuard `json:"wireguard_last,omitzero"`
}

// AllEnds are those that there are, the one to send to first.
func (e Ends) AllEnds() []WireGuard {
	return slices.DeleteFunc([]WireGuard{e.WireGuard, e.Next, e.Last}, func(w WireGuard) bool { return w.Key == "" })
}

// CheckEnds says what is wrong with one of them, as [WireGuard.Check] does.
func (e Ends) CheckEnds() error {
	return errors.Join(e.WireGuard.Check(), e.Next.Check(), e.Last.Check())
}

// Addr is the device's address: unique-local (RFC 4193), and no other key's. The zero
// Addr is that of a host without a device.
func (w WireGuard) Addr() netip.Addr {
	if w.Key == "" {
		return netip.Addr{}
	}
	const uniqueLocal = 0xfd
	addr := netip.IPv6Unspecified().As16()
	sum := sha256.Sum256([]byte("causeway wireguard " + w.Key))
	copy(addr[:], sum[:])
	addr[0] = uniqueLocal
	return netip.AddrFrom16(addr)
}

// Check says what is wrong with a WireGuard, which any host can have written; nil when it
// can be used, and for the zero one.
func (w WireGuard) Check() error {
	const length = 32 // of a Curve25519 key (RFC 7748)
	key, err := base64.StdEncoding.DecodeString(w.Key)
	if w != (WireGuard{}) && (err != nil || len(key) != length || w.Port == 0) {
		return fmt.Errorf("the WireGuard key %.60q with port %d is none", w.Key, w.Port)
	}
	return nil
}

// SealedPort names the VXLAN device by which an encrypted network of mode=ovs leaves the switch.
func SealedPort(network Network) string { return DeviceName("cwx", network.ID) }

// tunnelled says that a tunnel of network leads from one host to the other.
func tunnelled(network Network, from, to Host) bool {
	return sameFamily(vtepOn(network, from), vtepOn(network, to))
}

// vtepOn is the address that the tunnels of network to a host end at; the zero Addr
// where none can.
func vtepOn(network Network, host Host) netip.Addr {
	if network.Encrypted {
		return host.WireGuard.Addr()
	}
	return host.VTEP
}

// WireGuardOverhead is what WireGuard takes off the MTU of a path between hosts, in bytes
// (4 of its type, 4 of the receiver, 8 of the counter, 16 of the tag).
func WireGuardOverhead(vtep netip.Addr) int {
	const udp, wireguard = 8, 32
	return outerHeader(vtep) + udp + wireguard
}

// outerHeader is the length of an IP header without options.
func outerHeader(addr netip.Addr) int {
	const ipv4, ipv6 = 20, 40
	if addr.Is6() && !addr.Is4In6() {
		return ipv6
	}
	return ipv4
}

// WireGuardMTU is that of a host's WireGuard devices.
func (h Host) WireGuardMTU() int { return cmp.Or(h.MTU, 1500) - WireGuardOverhead(h.VTEP) }
