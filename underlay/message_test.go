package underlay

import (
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
)

// genMessage draws what the kernel may tell, and some that it never would.
func genMessage(t *rapid.T) message {
	m := message{kind: kind(rapid.IntRange(int(address), int(neighbour)).Draw(t, "kind"))}
	m.header = rapid.SliceOfN(rapid.Byte(), m.kind.headerLen(), m.kind.headerLen()).Draw(t, "header")
	m.header[0] = rapid.SampledFrom([]byte{unix.AF_INET, unix.AF_INET6}).Draw(t, "family")
	for typ := range rapid.Uint16Range(1, 31).Draw(t, "attributes") {
		if rapid.Bool().Draw(t, "has") {
			m.attrs = append(m.attrs, attr{typ + 1, rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(t, "value")})
		}
	}
	return m
}

func TestMessagesSurviveTheJournal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genMessage(t)
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got message
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.kind != want.kind || string(got.bytes()) != string(want.bytes()) {
			t.Fatalf("%s: % x became % x", text, want.bytes(), got.bytes())
		}
	})
}

func TestMessagesMoveAndComeBack(t *testing.T) {
	nic, bridge := device{2, "eth0"}, device{7, "br0"}
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(t)
		if m.kind != route && m.kind != nextHop { // the others are listed by their device
			binary.NativeEndian.PutUint32(m.header[4:], uint32(nic.index))
		}
		if m.uint32(unix.RTA_OIF) == uint32(bridge.index) || m.get(unix.RTA_MULTIPATH) != nil {
			t.Skip("leaves through both")
		}
		there := m.on(nic, bridge)
		if back := there.on(bridge, nic); m.kind != nextHop && back.key() != m.key() {
			t.Fatalf("%x came back as %x", m.key(), back.key())
		}
	})
}

func TestLabelsFollowTheDevice(t *testing.T) {
	for label, want := range map[string]string{
		"eth0": "cw-eth0", "eth0:1": "cw-eth0:1", "eth01": "", "other": "", "": "", "eth0:12345678": "",
	} {
		if got, _ := relabel(label, "eth0", "cw-eth0"); got != want {
			t.Errorf("%q became %q, want %q", label, got, want)
		}
	}
}

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
				if sum := checksum(append(pseudo, payload[ipv6Len:]...)); sum != 0 {
					t.Fatalf("the checksum of the %s is off by %#x", what, sum)
				}
			}
		}
		if _, ok := claims(announcement(mac, addr), addr.Next()); ok {
			t.Fatal("an announcement claims another address")
		}
	})
}

func TestNoFrameIsTooStrange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		claims(rapid.SliceOf(rapid.Byte()).Draw(t, "frame"), netip.IPv6LinkLocalAllNodes())
		for range nextHops(rapid.SliceOf(rapid.Byte()).Draw(t, "next hops")) {
		}
		_, _ = parseMessage(route, rapid.SliceOf(rapid.Byte()).Draw(t, "route"))
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
