package routed

import (
	"context"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
)

// Check says why this host cannot route for network; nil when it can.
func (p *Plane) Check(_ context.Context, network fabric.Network) error {
	if err := p.check(network); err != nil {
		return fmt.Errorf("routed: %w", err)
	}
	return nil
}

func (p *Plane) check(network fabric.Network) error {
	if len(network.Subnets) == 0 {
		return fmt.Errorf("it has no subnet")
	}
	if err := p.filters.Check(network); err != nil {
		return err
	}
	for _, subnet := range network.Subnets {
		six := subnet.Prefix.Addr().Is6()
		switch {
		case !subnet.Prefix.Contains(subnet.Gateway):
			return fmt.Errorf("subnet %s has no gateway address, which containers' routes lead to", subnet.Prefix)
		case network.Block != 0 && bits(network.Block, six) < subnet.Prefix.Bits():
			return fmt.Errorf("a block of -o block=%d is larger than subnet %s", network.Block, subnet.Prefix)
		case six && network.Via == fabric.ViaDirect && p.VTEP.Is4():
			return fmt.Errorf("subnet %s cannot be routed direct: the hosts' VTEPs are of IPv4, and an IPv6 route has no such next hop; use -o via=auto, or IPv6 VTEPs", subnet.Prefix)
		case six && network.MTU != 0 && network.MTU < fabric.MinMTU6:
			return fmt.Errorf("MTU %d is less than IPv6's least, %d, and the network has %s", network.MTU, fabric.MinMTU6, subnet.Prefix)
		}
	}
	here, _ := gateway.Of(network)
	if err := p.gateways.Conflict(here); err != nil && !network.Force {
		return fmt.Errorf("%w: give another --subnet, or take it all the same with -o force=true", err)
	}
	return nil
}

func bits(block int, six bool) int {
	if six {
		return block + 96
	}
	return block
}
