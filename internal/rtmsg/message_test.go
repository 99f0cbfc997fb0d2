package rtmsg

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// genMessage draws what the kernel may tell, and some that it never would.
func genMessage(t *rapid.T) Message {
	m := Message{Kind: Kind(rapid.IntRange(int(Address), int(Neighbour)).Draw(t, "kind"))}
	m.header = rapid.SliceOfN(rapid.Byte(), m.Kind.headerLen(), m.Kind.headerLen()).Draw(t, "header")
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
		var got Message
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.Kind != want.Kind || string(got.bytes()) != string(want.bytes()) {
			t.Fatalf("%s: % x became % x", text, want.bytes(), got.bytes())
		}
	})
}

func TestMessagesMoveAndComeBack(t *testing.T) {
	nic, bridge := Device{2, "eth0"}, Device{7, "br0"}
	rapid.Check(t, func(t *rapid.T) {
		m := genMessage(t)
		if m.Kind != Route && m.Kind != NextHop { // the others are listed by their device
			binary.NativeEndian.PutUint32(m.header[4:], uint32(nic.Index))
		}
		if m.uint32(unix.RTA_OIF) == uint32(bridge.Index) || m.Get(unix.RTA_MULTIPATH) != nil {
			t.Skip("leaves through both")
		}
		there := m.On(nic, bridge)
		if back := there.On(bridge, nic); m.Kind != NextHop && back.Key() != m.Key() {
			t.Fatalf("%x came back as %x", m.Key(), back.Key())
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

func TestParseArbitraryMessages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for range nextHops(rapid.SliceOf(rapid.Byte()).Draw(t, "next hops")) {
		}
		_, _ = parseMessage(Route, rapid.SliceOf(rapid.Byte()).Draw(t, "route"))
	})
}
