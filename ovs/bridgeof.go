package ovs

import (
	"context"
	"strings"
)

// BridgeOf names the Open vSwitch bridge, ours or anybody's, that has device as
// a port or is itself of that name. It is empty where none does, and where Open
// vSwitch is not there or does not answer. Any goroutine may ask.
func (p *Plane) BridgeOf(ctx context.Context, device string) string {
	if device == "" || p.breaker.open() || p.vswitch.noDatabase(ctx) != nil {
		return "" // the database alone knows, whether ovs-vswitchd runs or not
	}
	return p.vswitch.bridgeOf(ctx, device)
}

func (s vswitch) bridgeOf(ctx context.Context, device string) string {
	if _, err := s.exec(ctx, nil, "ovs-vsctl", "br-exists", device); err == nil {
		return device
	}
	bridge, err := s.exec(ctx, nil, "ovs-vsctl", "iface-to-br", device)
	if err != nil {
		return "" // so it says that no bridge has the device
	}
	return strings.TrimSpace(string(bridge))
}
