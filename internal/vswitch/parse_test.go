package vswitch

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/internal/openflow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseFlow(t *testing.T) {
	text := `OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0xca05e3a100000001, table=30, send_flow_rem priority=99,reg0=0x1 actions=drop
 priority=0 actions=NORMAL
 cookie=0x1, idle_timeout=10, in_port=3 actions=output:4
`
	got, err := parseFlows(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Flow{
		{0xca05e3a100000001, 30, 99, "reg0=0x1", "drop"},
		{0, 0, 0, "", "NORMAL"},
		{1, 0, 32768, "in_port=3", "output:4"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseFlows(" table=x actions=drop"); err == nil {
		t.Error("a table that is no number was taken")
	}
}

func TestParseMeters(t *testing.T) {
	got, err := parseMeters(`OFPST_METER_CONFIG reply (OF1.5) (xid=0x2):
meter=30002 kbps burst stats bands=
type=drop rate=100000 burst_size=512

meter=30001 pktps burst stats bands=
type=drop rate=1000 burst_size=900
`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint32]openflow.Meter{
		30001: {ID: 30001, Packets: true, Rate: 1000, Burst: 900},
		30002: {ID: 30002, Rate: 100000, Burst: 512},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := parseMeters("meter=x"); err == nil {
		t.Error("a meter that is no number was taken")
	}
}

func TestParseCounters(t *testing.T) {
	drops, err := parseMeterDrops(`OFPST_METER reply (OF1.5) (xid=0x2):
meter:30002 flow_count:1 packet_in_count:7 byte_in_count:420 duration:0.056s bands:
0: packet_count:3 byte_count:180

meter:30001 flow_count:1 packet_in_count:0 byte_in_count:0 duration:0.063s bands:
0: packet_count:0 byte_count:0
`)
	if diff := cmp.Diff(map[uint32]uint64{30001: 0, 30002: 3}, drops); err != nil || diff != "" {
		t.Error(err, diff)
	}
	flows, err := parseCounted(`OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0xca, duration=0.022s, table=10, n_packets=12, n_bytes=720, idle_age=0, priority=50,in_port=7 actions=drop
`)
	if diff := cmp.Diff([]Counted{{Flow{0xca, 10, 50, "in_port=7", "drop"}, 12}}, flows); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := parseCounted(" table=1, n_packets=x, actions=drop"); err == nil {
		t.Error("a count that is no number was taken")
	}
}

func TestReferences(t *testing.T) {
	for cell, want := range map[string][]string{
		`["uuid","a"]`:                        {"a"},
		`["set",[["uuid","a"],["uuid","b"]]]`: {"a", "b"},
		`["set",[]]`:                          {},
		`7`:                                   nil,
	} {
		if diff := cmp.Diff(want, references([]byte(cell))); diff != "" {
			t.Errorf("%s: %s", cell, diff)
		}
	}
}

func TestCommandsThatTellADevicesBridge(t *testing.T) {
	const exists, holder = "ovs-vsctl br-exists eth1", "ovs-vsctl iface-to-br eth1"
	for name, test := range map[string]struct {
		replies  map[string]string // the others fail
		want     string
		commands []string
	}{
		"a bridge":        {map[string]string{exists: ""}, "eth1", []string{exists}},
		"a bridge's port": {map[string]string{holder: "br-ex\n"}, "br-ex", []string{exists, holder}},
		"neither":         {nil, "", []string{exists, holder}},
	} {
		t.Run(name, func(t *testing.T) {
			var commands []string
			reply := func(context.Context, io.Reader, string, ...string) ([]byte, error) {
				if said, ok := test.replies[commands[len(commands)-1]]; ok {
					return []byte(said), nil
				}
				return nil, errors.New("ovs-vsctl: exit status 2")
			}
			if got := (&Switch{Exec: recording(reply, &commands)}).bridgeOf(t.Context(), "eth1"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if diff := cmp.Diff(test.commands, commands); diff != "" {
				t.Error(diff)
			}
		})
	}
}
