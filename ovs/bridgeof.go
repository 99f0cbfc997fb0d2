package ovs

import (
	"context"
	"strings"
)

// BridgeOf returns the Open vSwitch bridge, ours or another's, that has device as a
// port or is device itself. It is empty if there is none, and if Open vSwitch does not
// run or does not answer. Any goroutine may call it.
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
