package driver

import (
	"net/netip"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// TestRoutesThrough has the gateway on the link, the other subnets of the family, and the
// halves of the container's own, that without the gateway first.
func TestRoutesThrough(t *testing.T) {
	subnet := func(prefix, gateway string) fabric.Subnet {
		return fabric.Subnet{Prefix: netip.MustParsePrefix(prefix), Gateway: netip.MustParseAddr(gateway)}
	}
	found := fabric.Network{Mode: fabric.ModeRouted, Subnets: []fabric.Subnet{
		subnet("10.1.0.0/24", "10.1.0.1"), subnet("10.2.0.0/24", "10.2.0.1"), subnet("fd00:1::/64", "fd00:1::1"),
	}}
	endpoint := fabric.Endpoint{Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.9/24"), netip.MustParsePrefix("fd00:1::9/64")}}
	var got []network.StaticRoute
	for _, route := range routesThrough(found, endpoint) {
		got = append(got, *route)
	}
	want := []network.StaticRoute{
		{Destination: "10.1.0.1/32", RouteType: 1},
		{Destination: "10.2.0.0/24", NextHop: "10.1.0.1"},
		{Destination: "10.1.0.128/25", NextHop: "10.1.0.1"},
		{Destination: "10.1.0.0/25", NextHop: "10.1.0.1"},
		{Destination: "fd00:1::1/128", RouteType: 1},
		{Destination: "fd00:1:0:0:8000::/65", NextHop: "fd00:1::1"},
		{Destination: "fd00:1::/65", NextHop: "fd00:1::1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
