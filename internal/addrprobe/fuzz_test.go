package addrprobe

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
)

// Any frame on the wire is a claim of the address or none: a claim names it.
func FuzzClaims(f *testing.F) {
	mac := fabric.MAC{2, 0, 0, 0, 0, 1}
	for _, text := range []string{"10.0.0.1", "fd00::1"} {
		addr := netip.MustParseAddr(text)
		f.Add(announcement(mac, addr), text)
		f.Add(question(mac, addr), text)
	}
	f.Fuzz(func(t *testing.T, frame []byte, text string) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return
		}
		if _, claimed := claims(frame, addr); claimed && !bytes.Contains(frame, addr.AsSlice()) {
			t.Errorf("% x claims %s", frame, addr)
		}
	})
}
