package ovs

import (
	"syscall"
	"testing"

	"github.com/causeway-net/causeway/internal/planetest"
)

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
