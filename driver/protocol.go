package driver

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/internal/plugin"
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

// joinDeadline is longer than that of other calls: after a power loss an engine starts all of
// a host's containers at once, and each Join waits for those before it. Docker does not try
// again what is refused. It is below the 30 s that "docker plugin enable" grants a call.
const joinDeadline = 25 * time.Second

// Register binds the NetworkDriver's calls to server.
func (d *Driver) Register(server *plugin.Server) {
	plugin.Handle(server, "/NetworkDriver.GetCapabilities", d.getCapabilities)
	plugin.Handle(server, "/NetworkDriver.GwAllocCheck", d.checkGateway)
	plugin.Handle(server, "/NetworkDriver.AllocateNetwork", d.allocate)
	plugin.Handle(server, "/NetworkDriver.FreeNetwork", done(d.freeNetwork))
	plugin.Handle(server, "/NetworkDriver.CreateNetwork", whileMember(d, done(d.createNetwork)))
	plugin.Handle(server, "/NetworkDriver.DeleteNetwork", done(d.deleteNetwork))
	plugin.Handle(server, "/NetworkDriver.CreateEndpoint", whileMember(d, d.createEndpoint))
	plugin.Handle(server, "/NetworkDriver.DeleteEndpoint", done(d.deleteEndpoint))
	plugin.Handle(server, "/NetworkDriver.EndpointOperInfo", d.operInfo)
	plugin.HandleWithin(server, "/NetworkDriver.Join", joinDeadline, whileMember(d, d.join))
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

// done makes a handler of one whose success has no answer.
func done[Req any](handle func(context.Context, *Req) error) func(context.Context, *Req) (*empty, error) {
	return func(ctx context.Context, request *Req) (*empty, error) { return &empty{}, handle(ctx, request) }
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

func (d *Driver) operInfo(context.Context, *network.InfoRequest) (*network.InfoResponse, error) {
	return &network.InfoResponse{Value: map[string]string{}}, nil
}
