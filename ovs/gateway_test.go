package ovs

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
)

// TestGatewayComesBack has a network's last container go and another come.
func TestGatewayComesBack(t *testing.T) {
	config := newSite(t).suite("10.99.0.0", "")
	config.Network = func(number int) fabric.Network { // whose gateways can be on one host
		network := fabric.Network{Name: "foo", VNI: uint32(number)}
		for _, subnet := range []string{"172.31.%d.0/24", "fd31:%d::/64"} {
			prefix := netip.MustParsePrefix(fmt.Sprintf(subnet, number))
			network.Subnets = append(network.Subnets, fabric.Subnet{Prefix: prefix, Gateway: prefix.Addr().Next()})
		}
		return network
	}
	rig := planetest.NewRig(t, config, 1)
	host, network := rig.Hosts[0], rig.Network(1)
	rig.Start(host, rig.Network(2), 3) // so that the bridge stays
	for range 2 {
		container := rig.Start(host, network, 2)
		if up := host.Plane.Gateways(rig.Segment(host, network)); len(up) == 0 {
			t.Fatal("the gateway is not up")
		}
		rig.Forget(container.Endpoint)
		rig.Prune()
	}
}
