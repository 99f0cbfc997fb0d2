package fabric

import (
	"fmt"
	"net/netip"
	"slices"
)

// The bounds of an MTU: IPv4 needs 68 bytes (RFC 791 §3.2), IPv6 1,280 (RFC 8200
// §5), and a packet's length has 16 bits.
const (
	MinMTU  = 68
	MinMTU6 = 1280
	MaxMTU  = 65535
)

// minMTU is the smallest MTU that containers on network can have.
func minMTU(network Network) int {
	six := slices.ContainsFunc(network.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is6() })
	if network.IPv6 || six {
		return MinMTU6
	}
	return MinMTU
}

// CheckPeer says what is wrong with another host's record as the host self sees
// it. Plan leaves such a part of the record out.
func CheckPeer(self, peer Host) error {
	switch {
	case peer.MTU != 0 && (peer.MTU < MinMTU || peer.MTU > MaxMTU):
		return fmt.Errorf("host %s: its record has the MTU %d, which is not from %d to %d and is ignored", peer.Name, peer.MTU, MinMTU, MaxMTU)
	case !peer.VTEP.IsValid():
		return fmt.Errorf("host %s: its record has no VTEP: nothing is sent to its containers", peer.Name)
	case !sameFamily(self.VTEP, peer.VTEP):
		return fmt.Errorf("host %s has the VTEP %s, to which no tunnel leads from this host's %s: nothing is sent to its containers", peer.Name, peer.VTEP, self.VTEP)
	}
	return nil
}

// sameFamily says whether a tunnel can lead from one VTEP to the other.
func sameFamily(a, b netip.Addr) bool {
	return a.IsValid() && b.IsValid() && a.Unmap().Is4() == b.Unmap().Is4()
}

// CheckChange says which field of a network changed that is fixed at its creation
// and that running containers rely on.
func CheckChange(before, after Network) error {
	prefixes := func(n Network) []netip.Prefix {
		var found []netip.Prefix
		for _, subnet := range n.Subnets {
			found = append(found, subnet.Prefix)
		}
		return found
	}
	for _, field := range []struct {
		name          string
		before, after any
	}{
		{"mode", before.Mode, after.Mode},
		{"encryption", before.Encrypted, after.Encrypted},
		{"VNI", before.VNI, after.VNI},
		{"tunnel", before.Tunnel, after.Tunnel},
		{"parent", before.Parent, after.Parent},
		{"bridge", before.Bridge, after.Bridge},
		{"VLAN", before.VLAN, after.VLAN},
		{"way (via)", before.Via, after.Via},
		{"block size", before.Block, after.Block},
	} {
		if field.before != field.after {
			return fmt.Errorf("the %s of network %s was changed in its record from %v to %v: it is fixed", field.name, before.Label(), field.before, field.after)
		}
	}
	if b, a := prefixes(before), prefixes(after); !slices.Equal(b, a) {
		return fmt.Errorf("the subnets of network %s were changed in its record from %v to %v: they are fixed", before.Label(), b, a)
	}
	return nil
}
