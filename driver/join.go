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

// join hands Docker the container's end of the pair, and names the network's gateway. For
// a container that publishes ports it names none that is this host's own, as where there
// is none: Docker then adds docker_gwbridge, and with it masquerading and those ports.
func (d *Driver) join(ctx context.Context, request *network.JoinRequest) (*network.JoinResponse, error) {
	if err := checkIDs(request.NetworkID, request.EndpointID); err != nil {
		return nil, err
	}
	found, _, err := d.attached(ctx, request.NetworkID)
	if err != nil {
		return nil, err
	}
	plugged, err := d.plug(ctx, found.ID, request.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", found.Label(), err)
	}
	if d.Names != nil {
		d.Names.Joined(plugged.ID, request.SandboxKey)
	}
	gateways := plugged.Gateways
	if found.Mode != fabric.ModeUnderlay && publishesPorts(request.Options) {
		gateways = nil
	}
	answer := &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: plugged.Link, DstPrefix: "eth"}}
	if found.Mode == fabric.ModeRouted {
		answer.StaticRoutes = routesThrough(found, plugged.Endpoint)
	}
	const connected = 1 // libnetwork's types.CONNECTED: the destination is on the link
	for _, subnet := range found.Subnets {
		in := func(a netip.Prefix) bool { return subnet.Prefix.Contains(a.Addr()) }
		sameFamily := func(a netip.Prefix) bool { return subnet.Prefix.Addr().Is4() == a.Addr().Is4() }
		switch {
		case slices.ContainsFunc(plugged.Addrs, in):
			if slices.Contains(gateways, subnet.Gateway) {
				setGateway(answer, subnet.Gateway)
			}
		case found.Mode == fabric.ModeRouted:
		case slices.ContainsFunc(plugged.Addrs, sameFamily):
			answer.StaticRoutes = append(answer.StaticRoutes, &network.StaticRoute{Destination: subnet.Prefix.String(), RouteType: connected})
		}
	}
	return answer, nil
}

func setGateway(answer *network.JoinResponse, gateway netip.Addr) {
	if gateway.Is4() {
		answer.Gateway = gateway.String()
	} else {
		answer.GatewayIPv6 = gateway.String()
	}
}

// publishesPorts says whether the container does, on any of its networks: so it is told
// with each Join.
func publishesPorts(options map[string]any) bool {
	ports, _ := options[labelPorts].([]any)
	return len(ports) > 0
}

// joinWait is how long a Join waits for its endpoint until its record is looked for.
const joinWait = 300 * time.Millisecond

// plug waits for the endpoint's link, unless the endpoint has no record here.
func (d *Driver) plug(ctx context.Context, network, endpoint string) (fabric.Plugged, error) {
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
	plugged, err := d.Reconciler.Plug(ctx, network, endpoint)
	if err != nil && errors.Is(context.Cause(ctx), missing) {
		err = missing
	}
	return plugged, err
}
