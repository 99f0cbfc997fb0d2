package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
)

// capabilities adds to the helpers' type what engine 28.0 brought.
type capabilities struct {
	network.CapabilitiesResponse
	GwAllocChecker bool
}

// gwAllocCheck is sent by engine 28.0 and newer before it asks the IPAM for a gateway.
type gwAllocCheck struct {
	Options map[string]any
}

type gwAllocAnswer struct {
	SkipIPv4, SkipIPv6 bool
}

type empty struct{}

// Register binds the NetworkDriver's calls to server.
func (d *Driver) Register(server *plugin.Server) {
	plugin.Handle(server, "/NetworkDriver.GetCapabilities", d.getCapabilities)
	plugin.Handle(server, "/NetworkDriver.GwAllocCheck", d.checkGateway)
	plugin.Handle(server, "/NetworkDriver.AllocateNetwork", d.allocate)
	plugin.Handle(server, "/NetworkDriver.FreeNetwork", d.free)
	plugin.Handle(server, "/NetworkDriver.CreateNetwork", whileMember(d, d.handleCreateNetwork))
	plugin.Handle(server, "/NetworkDriver.DeleteNetwork", d.handleDeleteNetwork)
	plugin.Handle(server, "/NetworkDriver.CreateEndpoint", whileMember(d, d.handleCreateEndpoint))
	plugin.Handle(server, "/NetworkDriver.DeleteEndpoint", d.handleDeleteEndpoint)
	plugin.Handle(server, "/NetworkDriver.EndpointOperInfo", d.operInfo)
	plugin.Handle(server, "/NetworkDriver.Join", whileMember(d, d.join))
	plugin.Handle(server, "/NetworkDriver.Leave", succeed[network.LeaveRequest])
	plugin.Handle(server, "/NetworkDriver.ProgramExternalConnectivity", succeed[network.ProgramExternalConnectivityRequest])
	plugin.Handle(server, "/NetworkDriver.RevokeExternalConnectivity", succeed[network.RevokeExternalConnectivityRequest])
	plugin.Handle(server, "/NetworkDriver.DiscoverNew", succeed[network.DiscoveryNotification])
	plugin.Handle(server, "/NetworkDriver.DiscoverDelete", succeed[network.DiscoveryNotification])
}

// whileMember refuses a call while this host may not act. Deletes are not
// refused: they touch only what was made here.
func whileMember[Req, Resp any](d *Driver, handle func(context.Context, *Req) (*Resp, error)) func(context.Context, *Req) (*Resp, error) {
	return func(ctx context.Context, request *Req) (*Resp, error) {
		if err := d.Membership.Refusal(); err != nil {
			return nil, err
		}
		return handle(ctx, request)
	}
}

// succeed answers the calls that ask nothing of us. Leave is one: the engine
// takes the link out of the container itself, and DeleteEndpoint follows.
func succeed[Req any](context.Context, *Req) (*empty, error) { return &empty{}, nil }

var (
	errNoNetwork  = errors.New("the request names no network")
	errNoEndpoint = errors.New("the request names no endpoint")
)

func checkIDs(dockerID, endpoint string) error {
	switch {
	case dockerID == "":
		return errNoNetwork
	case endpoint == "":
		return errNoEndpoint
	}
	return nil
}

// getCapabilities depends on nothing: an engine that once gets an error here
// refuses the driver until it is restarted.
func (d *Driver) getCapabilities(context.Context, *empty) (*capabilities, error) {
	return &capabilities{
		CapabilitiesResponse: network.CapabilitiesResponse{Scope: d.Scope, ConnectivityScope: network.GlobalScope},
		GwAllocChecker:       true,
	}, nil
}

// checkGateway refuses bad options before any address is taken. The gateway's
// address is reserved all the same: older engines do it unasked, and a network
// has to look alike on all hosts.
func (d *Driver) checkGateway(_ context.Context, request *gwAllocCheck) (*gwAllocAnswer, error) {
	_, err := decodeOptions(request.Options)
	return &gwAllocAnswer{}, err
}

// allocate echoes the user's options: what is returned here replaces them on
// swarm's workers.
func (d *Driver) allocate(_ context.Context, request *network.AllocateNetworkRequest) (*network.AllocateNetworkResponse, error) {
	return &network.AllocateNetworkResponse{Options: request.Options}, nil
}

func (d *Driver) free(ctx context.Context, request *network.FreeNetworkRequest) (*empty, error) {
	if request.NetworkID == "" {
		return nil, errNoNetwork
	}
	return &empty{}, d.records.DeleteSwarmNetwork(ctx, networkID(request.NetworkID))
}

func (d *Driver) handleCreateNetwork(ctx context.Context, request *network.CreateNetworkRequest) (*empty, error) {
	return &empty{}, d.createNetwork(ctx, request)
}

// A delete does not wait for a store that is known to be away: engines go on
// whatever the answer is, with one delete after the other while they boot, and
// what they forget is collected later.
func (d *Driver) handleDeleteNetwork(ctx context.Context, request *network.DeleteNetworkRequest) (*empty, error) {
	return &empty{}, d.deleteNetwork(kvstore.Hasty(ctx), request.NetworkID)
}

func (d *Driver) handleCreateEndpoint(ctx context.Context, request *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	mac, err := d.createEndpoint(ctx, request)
	if err != nil {
		return nil, err
	}
	// Docker refuses an answer that repeats what it has set itself.
	answer := &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}
	if mac != (fabric.MAC{}) {
		answer.Interface.MacAddress = mac.String()
	}
	return answer, nil
}

func (d *Driver) handleDeleteEndpoint(ctx context.Context, request *network.DeleteEndpointRequest) (*empty, error) {
	return &empty{}, d.deleteEndpoint(kvstore.Hasty(ctx), request.NetworkID, request.EndpointID)
}

func (d *Driver) operInfo(context.Context, *network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{}}, nil
}

// join hands Docker the container's end of the pair. It names no gateway on a
// tunnelled network: Docker then adds docker_gwbridge, and with it masquerading
// and published ports.
func (d *Driver) join(ctx context.Context, request *network.JoinRequest) (*network.JoinResponse, error) {
	if err := checkIDs(request.NetworkID, request.EndpointID); err != nil {
		return nil, err
	}
	found, _, err := d.records.Attached(ctx, request.NetworkID)
	if err != nil {
		return nil, err
	}
	link, endpoint, err := d.plug(ctx, found.ID, request.EndpointID)
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", found.Label(), err)
	}
	answer := &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: link, DstPrefix: "eth"}}
	addresses := endpoint.Addrs
	for _, subnet := range found.Subnets {
		if holdsAny(subnet.Prefix, addresses) {
			setGateway(answer, found, subnet.Gateway)
			continue
		}
		if sameFamily(subnet.Prefix, addresses) {
			answer.StaticRoutes = append(answer.StaticRoutes, &network.StaticRoute{Destination: subnet.Prefix.String(), RouteType: routeConnected})
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

// routeConnected is libnetwork's types.CONNECTED: the destination is on the link.
const routeConnected = 1

func holdsAny(prefix netip.Prefix, addresses []netip.Prefix) bool {
	for _, address := range addresses {
		if prefix.Contains(address.Addr()) {
			return true
		}
	}
	return false
}

func sameFamily(prefix netip.Prefix, addresses []netip.Prefix) bool {
	for _, address := range addresses {
		if prefix.Addr().Is4() == address.Addr().Is4() {
			return true
		}
	}
	return false
}
