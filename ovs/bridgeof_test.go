package ovs

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/planetest"
)

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
			if got := (vswitch{exec: recording(reply, &commands)}).bridgeOf(t.Context(), "eth1"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if diff := cmp.Diff(test.commands, commands); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBridgeOfKnowsEveryBridgeOfTheSwitch(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	m, plane := site.machine(t, rig.Hosts[0]), rig.Hosts[0].Plane.(*Plane)
	want := func(bridges map[string]string) {
		t.Helper()
		for device, bridge := range bridges {
			if got := plane.BridgeOf(t.Context(), device); got != bridge {
				t.Errorf("bridge of %q is %q, want %q", device, got, bridge)
			}
		}
	}
	want(map[string]string{"eth0": "brphy", "brphy": "brphy", "lo": "", "": ""})
	m.stop("ovs-vswitchd", syscall.SIGTERM)
	want(map[string]string{"eth0": "brphy"})
	if err := m.daemons["ovsdb-server"].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	want(map[string]string{"eth0": ""})
	m.stop("ovsdb-server", syscall.SIGKILL)
	want(map[string]string{"eth0": ""})
}
