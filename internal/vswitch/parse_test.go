package vswitch

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
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
