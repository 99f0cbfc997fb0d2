package rtmsg

import (
	"encoding/json"
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever a dump or a journal has is an error or a message that can be asked, moved
// to another device and kept.
func FuzzMessage(f *testing.F) {
	f.Add(byte(Address), []byte{unix.AF_INET, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1})
	f.Add(byte(Route), []byte{unix.AF_INET6, 0, 0, 0, 254, 9, 0, 1, 0, 0, 0, 0, 8, 0, 4, 0, 2, 0, 0, 0})
	f.Add(byte(Route), []byte{unix.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 12, 0, 9, 0, 8, 0, 0, 0, 2, 0, 0, 0})
	f.Add(byte(NextHop), []byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0, 8, 0, 5, 0, 2, 0, 0, 0})
	f.Add(byte(Neighbour), []byte{unix.AF_INET, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 1, 8, 0, 1, 0, 10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, kind byte, raw []byte) {
		m, err := parseMessage(Kind(kind%(byte(Neighbour)+1)), raw)
		if err != nil {
			return
		}
		there := m.On(Device{2, "eth0"}, Device{7, "br0"})
		_ = there.String() + there.Key()
		_, _ = there.Leaves(7), there.ViaGateway()
		switch m.Kind {
		case Address:
			there.SetAddressFlags(there.AddressFlags())
			_, _, _ = there.IsLinkLocal(), there.IsDynamic(), there.Maker()
		case Route:
			_, _, _, _ = there.IsLocal(), there.ByRouter(), there.madeByKernel(), there.cached()
		case Neighbour:
			there.carryable()
		}
		kept, err := json.Marshal(there)
		if err != nil {
			t.Fatal(err)
		}
		var back Message
		if err := json.Unmarshal(kept, &back); err != nil || back.Key() != there.Key() {
			t.Errorf("%s reads back as %s, %v", kept, back, err)
		}
	})
}

// A journal that was damaged is an error or a state.
func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"addresses":[{"kind":"address","text":"10.0.0.1/24","raw":"AhgAAAIAAAAIAAIACgAAAQ=="}],"routes":[null]}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		var state State
		if json.Unmarshal(text, &state) != nil {
			return
		}
		both := state.On(Device{2, "eth0"}, Device{7, "br0"}).With(state)
		for _, list := range both.lists() {
			for _, m := range *list {
				_ = m.String()
			}
		}
	})
}
