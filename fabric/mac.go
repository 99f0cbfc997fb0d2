package fabric

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
)

// MAC is a comparable 48-bit hardware address; as text it reads 02:42:….
type MAC [6]byte

// ParseMAC reads a MAC in the forms of [net.ParseMAC] that have six octets.
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a MAC address", s)
	}
	return MAC(hw), nil
}

// HardwareAddr is for the calls of other packages.
func (m MAC) HardwareAddr() net.HardwareAddr { return m[:] }

func (m MAC) String() string { return m.HardwareAddr().String() }

// IsUnicast says whether a station may have m: not zero, not a group address (IEEE 802 §8.2).
func (m MAC) IsUnicast() bool { return m != MAC{} && m[0]&1 == 0 }

// MarshalText implements [encoding.TextMarshaler].
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *MAC) UnmarshalText(text []byte) error {
	parsed, err := ParseMAC(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// LinkLocal gives the IPv6 link-local address that m makes (RFC 4291, appendix A).
func (m MAC) LinkLocal() netip.Addr {
	const universal = 2 // the bit is inverted
	addr := [16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ universal, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe}
	copy(addr[13:], m[3:])
	return netip.AddrFrom16(addr)
}

// DeriveMAC gives the MAC of the endpoint with addr on network: an address that
// moves to another container keeps its MAC, so no neighbour cache goes stale.
// It is locally administered and unicast.
func DeriveMAC(network string, addr netip.Addr) MAC {
	sum := sha256.Sum256([]byte(network + " " + addr.Unmap().String()))
	return MAC{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// DeviceName gives a link name of at most 15 bytes (IFNAMSIZ less the zero) for
// an object: prefix and 10 hex digits of a hash of id. The prefix may have 5 bytes.
func DeviceName(prefix, id string) string {
	return prefix + ShortHash(id)
}

// ShortHash gives the 10 hex digits of a hash of id, for the names of kernel objects.
func ShortHash(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:5])
}
