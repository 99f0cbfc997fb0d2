package engine

import (
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"
)

// Engines from 29.0 on show gateways that they allocated.
func TestGatewayGiven(t *testing.T) {
	config := func(gateway, ipRange string) network.IPAMConfig {
		c := network.IPAMConfig{Subnet: netip.MustParsePrefix("10.1.0.0/16")}
		if gateway != "" {
			c.Gateway = netip.MustParseAddr(gateway)
		}
		if ipRange != "" {
			c.IPRange = netip.MustParsePrefix(ipRange)
		}
		return c
	}
	for _, test := range []struct {
		version string
		config  network.IPAMConfig
		want    bool
	}{
		{"1.51", config("", ""), false},
		{"1.51", config("10.1.0.1", ""), true},
		{"1.52", config("", ""), false},
		{"1.52", config("10.1.0.1", ""), false},
		{"1.53", config("10.1.0.254", ""), true},
		{"1.53", config("10.1.4.0", "10.1.4.0/24"), false},
		{"1.53", config("10.1.4.9", "10.1.4.0/24"), true},
	} {
		if got := gatewayGiven(test.version, test.config); got != test.want {
			t.Errorf("API %s, %+v: %v", test.version, test.config, got)
		}
	}
}
