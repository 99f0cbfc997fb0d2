package ovs

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/openflow"
	"github.com/causeway-net/causeway/internal/planetest"
	"github.com/causeway-net/causeway/internal/vswitch"
)

// TestMetersComeBackAndGo has the meters of a network with a rate deleted by hand, which
// takes the flows that name them along, and one changed. Those of a container
// that goes, go.
func TestMetersComeBackAndGo(t *testing.T) {
	site := newSite(t)
	suite := site.suite("10.99.0.0", "")
	plain := suite.Network
	suite.Network = func(number int) fabric.Network {
		network := plain(number)
		network.Rate = 100_000_000
		return network
	}
	rig, network, a, b := planetest.Two(t, suite)
	host := rig.Hosts[0]
	m := site.machine(t, host)
	meters := func() map[uint32]openflow.Meter {
		all, err := m.DumpMeters(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	before := meters()
	if len(before) != metersOfPort {
		t.Fatalf("a container has meters %v", before)
	}
	first := slices.Min(slices.Collect(maps.Keys(before)))
	for _, harm := range [][]string{{"del-meters", bridge}, {"mod-meter", bridge, fmt.Sprintf("meter=%d kbps burst stats bands=type=drop rate=7 burst_size=7", first)}} {
		m.tool(t, "ovs-ofctl", append([]string{"-O", vswitch.OpenFlow15}, harm...)...)
		host.Plane.Invalidate()
		rig.Apply()
		if diff := cmp.Diff(before, meters()); diff != "" {
			t.Errorf("after %s: %s", harm[0], diff)
		}
		if !pings(t, a, v4(b)) {
			t.Errorf("after %s containers do not talk", harm[0])
		}
	}
	rig.Start(host, network, 4)
	rig.Forget(a.Endpoint)
	rig.Apply()
	if left := meters(); len(left) != metersOfPort {
		t.Errorf("the other container has meters %v", left)
	}
}
