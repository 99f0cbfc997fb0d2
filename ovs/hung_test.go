package ovs

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
	"github.com/causeway-net/causeway/internal/vswitch"
)

func TestAHungSwitchBlocksNoApply(t *testing.T) {
	site := newSite(t)
	rig := planetest.NewRig(t, site.suite("10.99.0.0", ""), 1)
	host := rig.Hosts[0]
	var networks []fabric.Network
	for number := range 4 {
		networks = append(networks, rig.Network(number+1))
		rig.Start(host, networks[number], 2)
	}
	m := site.machine(t, host)
	if err := m.daemons["ovs-vswitchd"].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	host.Plane.Invalidate()
	const slack = time.Second // for the commands that are answered
	for _, limit := range []time.Duration{vswitch.CommandTimeout, 0} {
		begin := time.Now()
		for _, network := range networks {
			_, err := host.Plane.Apply(t.Context(), rig.Segment(host, network))
			if err == nil || err.Error() != "ovs: "+vswitch.ErrUnresponsive.Error() {
				t.Errorf("Apply of %s: %v", network.ID, err)
			}
		}
		took := time.Since(begin)
		t.Logf("a pass over %d networks took %s", len(networks), took.Round(time.Millisecond))
		if took > limit+slack {
			t.Errorf("that is more than %s", limit+slack)
		}
	}
	if err := host.Plane.Check(t.Context(), networks[0]); !errors.Is(err, vswitch.ErrUnresponsive) {
		t.Errorf("Check: %v", err)
	}
	rig.Prune() // it can do nothing, and says nothing
	m.stop("ovs-vswitchd", syscall.SIGKILL)
	m.startSwitch(t)
	begin := time.Now()
	until(t, "the new switch is asked", func() bool {
		_, err := host.Plane.Apply(t.Context(), rig.Segment(host, networks[0]))
		return err == nil
	})
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the new switch was asked after %s", took)
	}
	rig.Apply()
}
