package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// join hands Docker the container's end of the pair. It names no gateway on a
// tunnelled network: Docker then adds docker_gwbridge, and with it masquerading
// and published ports.
func (d *Driver) join(ctx context.Context, request *network.JoinRequest) (*network.JoinResponse, error) {
	if err := checkIDs(request.NetworkID, request.EndpointID); err != nil {
		return nil, err
	}
	found, _, err := d.attached(ctx, request.NetworkID)
	if err != nil {
		return nil, err
	}
	link, endpoint, err := d.plug(ctx, found.ID, request.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", found.Label(), err)
	}
	if d.Names != nil {
		d.Names.Joined(endpoint.ID, request.SandboxKey)
	}
	answer := &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: link, DstPrefix: "eth"}}
	if found.Mode == fabric.ModeRouted {
		answer.StaticRoutes = routesThrough(found, endpoint)
	}
	const connected = 1 // libnetwork's types.CONNECTED: the destination is on the link
	for _, subnet := range found.Subnets {
		in := func(a netip.Prefix) bool { return subnet.Prefix.Contains(a.Addr()) }
		sameFamily := func(a netip.Prefix) bool { return subnet.Prefix.Addr().Is4() == a.Addr().Is4() }
		switch {
		case slices.ContainsFunc(endpoint.Addrs, in):
			setGateway(answer, found, subnet.Gateway)
		case found.Mode == fabric.ModeRouted:
		case slices.ContainsFunc(endpoint.Addrs, sameFamily):
			answer.StaticRoutes = append(answer.StaticRoutes, &network.StaticRoute{Destination: subnet.Prefix.String(), RouteType: connected})
		}
	}
	return answer, nil
}

// setGateway names the physical network's router; only underlay has one.
func setGateway(answer *network.JoinResponse, found fabric.Network, gateway netip.Addr) {
	switch {
	case found.Mode != fabric.ModeUnderlay || found.Internal || !gateway.IsValid():
	case gateway.Is4():
		answer.Gateway = gateway.String()
	default:
		answer.GatewayIPv6 = gateway.String()
	}
}

// joinWait is how long a Join waits for its endpoint until its record is looked for.
const joinWait = 300 * time.Millisecond

// plug waits for the endpoint's link, unless the endpoint has no record here.
func (d *Driver) plug(ctx context.Context, network, endpoint string) (string, fabric.Endpoint, error) {
	missing := fmt.Errorf("endpoint %.12s is not in the cluster's records: start the container again", endpoint)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	look := time.AfterFunc(joinWait, func() {
		found, err := d.records.Endpoint(ctx, network, endpoint)
		if errors.Is(err, kvstore.ErrNotFound) || err == nil && found.Host != d.Host.Name {
			cancel(missing)
		}
	})
	defer look.Stop()
	link, plugged, err := d.Reconciler.Plug(ctx, network, endpoint)
	if err != nil && errors.Is(context.Cause(ctx), missing) {
		err = missing
	}
	return link, plugged, err
}
