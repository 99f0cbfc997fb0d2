package ipam

import (
	"context"
	"net/netip"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
)

// Options of RequestAddress (libnetwork's ipamapi and netlabel packages).
const (
	labelType    = "RequestAddressType"
	labelGateway = "com.docker.network.gateway"
	// labelName is the container's name, sent by engine 29.0 and newer.
	labelName = "com.docker.network.endpoint.name"
)

// capabilities adds to the helpers' type what they lack. Nothing has to be
// replayed after a restart: the records know.
type capabilities struct {
	ipam.CapabilitiesResponse
	RequiresRequestReplay bool
}

type empty struct{}

// Register binds the IpamDriver's calls to server.
func (i *IPAM) Register(server *plugin.Server) {
	plugin.Handle(server, "/IpamDriver.GetCapabilities", func(context.Context, *empty) (*capabilities, error) {
		return &capabilities{}, nil
	})
	plugin.Handle(server, "/IpamDriver.GetDefaultAddressSpaces", func(context.Context, *empty) (*ipam.AddressSpacesResponse, error) {
		return &ipam.AddressSpacesResponse{LocalDefaultAddressSpace: localSpace, GlobalDefaultAddressSpace: globalSpace}, nil
	})
	plugin.Handle(server, "/IpamDriver.RequestPool", i.handleRequestPool)
	plugin.Handle(server, "/IpamDriver.ReleasePool", func(ctx context.Context, r *ipam.ReleasePoolRequest) (*empty, error) {
		return &empty{}, i.releasePool(kvstore.Hasty(ctx), r.PoolID)
	})
	plugin.Handle(server, "/IpamDriver.RequestAddress", i.handleRequestAddress)
	plugin.Handle(server, "/IpamDriver.ReleaseAddress", func(ctx context.Context, r *ipam.ReleaseAddressRequest) (*empty, error) {
		return &empty{}, i.releaseAddress(kvstore.Hasty(ctx), r.PoolID, r.Address)
	})
}

func (i *IPAM) handleRequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	want, err := decodePool(r)
	if err != nil {
		return nil, err
	}
	id, err := i.requestPool(ctx, &want)
	if err != nil {
		return nil, err
	}
	return &ipam.RequestPoolResponse{PoolID: id.String(), Pool: want.prefix.String(), Data: map[string]string{}}, nil
}

func (i *IPAM) handleRequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	want := addressRequest{gateway: r.Options[labelType] == labelGateway, name: r.Options[labelName]}
	if r.Address != "" {
		var err error
		if want.addr, err = netip.ParseAddr(r.Address); err != nil {
			return nil, badAddress(r.Address)
		}
	}
	given, err := i.requestAddress(ctx, r.PoolID, want)
	if err != nil {
		return nil, err
	}
	return &ipam.RequestAddressResponse{Address: given.String(), Data: map[string]string{}}, nil
}
