package nicmove

import (
	"encoding/binary"
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
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

func TestNoMessageIsTooStrange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		for range nextHops(rapid.SliceOf(rapid.Byte()).Draw(t, "next hops")) {
		}
		_, _ = parseMessage(route, rapid.SliceOf(rapid.Byte()).Draw(t, "route"))
	})
}
