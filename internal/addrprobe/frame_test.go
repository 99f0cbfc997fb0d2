package addrprobe

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/wire"
)

func TestFramesSayWhatTheyMean(t *testing.T) {
	mac := fabric.MAC{2, 0, 0, 0, 0, 1}
	rapid.Check(t, func(t *rapid.T) {
		addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "IPv4")))
		if rapid.Bool().Draw(t, "IPv6") {
			addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")))
		}
		if addr.Is4In6() || addr.IsUnspecified() {
			t.Skip("is no holder's")
		}
		for what, frame := range map[string][]byte{"announcement": announcement(mac, addr), "question": question(mac, addr)} {
			if got, ok := claims(frame, addr); !ok || got != mac {
				t.Fatalf("the %s of %s claims it: %v, by %s", what, addr, ok, got)
			}
			if addr.Is6() {
				payload := frame[ethernetLen:]
				pseudo := append(append([]byte{}, payload[8:40]...), 0, 0, 0, payload[5], 0, 0, 0, unix.IPPROTO_ICMPV6)
				if sum := wire.Checksum(append(pseudo, payload[ipv6Len:]...)); sum != 0 {
					t.Fatalf("the checksum of the %s is off by %#x", what, sum)
				}
			}
		}
		if _, ok := claims(announcement(mac, addr), addr.Next()); ok {
			t.Fatal("an announcement claims another address")
		}
	})
}

func TestParseArbitraryFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims(rapid.SliceOf(rapid.Byte()).Draw(t, "frame"), netip.IPv6LinkLocalAllNodes())
	})
}

func TestARPAnnouncement(t *testing.T) {
	want := []byte{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06,
		0, 1, 8, 0, 6, 4, 0, 1,
		2, 0, 0, 0, 0, 1, 192, 0, 2, 9,
		0, 0, 0, 0, 0, 0, 192, 0, 2, 9,
	}
	got := announcement(fabric.MAC{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("192.0.2.9"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
