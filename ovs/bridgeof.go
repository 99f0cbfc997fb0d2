package ovs

import "context"

// BridgeOf returns the Open vSwitch bridge, ours or another's, that has device as a
// port or is device itself; empty if there is none. Any goroutine may call it.
func (p *Plane) BridgeOf(ctx context.Context, device string) string {
	return p.vswitch.BridgeOf(ctx, device)
}
