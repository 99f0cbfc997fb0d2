package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
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
		return &empty{}, i.releasePool(kvstore.FailFast(ctx), r)
	})
	plugin.Handle(server, "/IpamDriver.RequestAddress", i.handleRequestAddress)
	plugin.Handle(server, "/IpamDriver.ReleaseAddress", func(ctx context.Context, r *ipam.ReleaseAddressRequest) (*empty, error) {
		return &empty{}, i.releaseAddress(kvstore.FailFast(ctx), r)
	})
}

func (i *IPAM) handleRequestPool(ctx context.Context, r *ipam.RequestPoolRequest) (*ipam.RequestPoolResponse, error) {
	want, within, err := decodePool(r)
	if err != nil {
		return nil, err
	}
	want.Avoid = i.VTEPNet
	key, pool, err := i.claimer.RequestPool(ctx, want)
	if err != nil {
		return nil, err
	}
	id := poolID{key: key, global: want.Global, within: within}
	return &ipam.RequestPoolResponse{PoolID: id.String(), Pool: pool.Prefix.String(), Data: map[string]string{}}, nil
}

func (i *IPAM) releasePool(ctx context.Context, r *ipam.ReleasePoolRequest) error {
	id, err := parsePoolID(r.PoolID)
	if err != nil {
		return err
	}
	return i.claimer.ReleasePool(ctx, id.key, id.global)
}

func (i *IPAM) handleRequestAddress(ctx context.Context, r *ipam.RequestAddressRequest) (*ipam.RequestAddressResponse, error) {
	id, err := parsePoolID(r.PoolID)
	if err != nil {
		return nil, err
	}
	want := records.AddressRequest{
		Pool: id.key, Within: id.within, Global: id.global,
		Gateway: r.Options[labelType] == labelGateway, Name: r.Options[labelName],
	}
	if r.Address != "" {
		if want.Addr, err = parseAddress(r.Address); err != nil {
			return nil, err
		}
	}
	given, err := i.claimer.Claim(ctx, want)
	if err != nil {
		return nil, err
	}
	return &ipam.RequestAddressResponse{Address: given.String(), Data: map[string]string{}}, nil
}

func (i *IPAM) releaseAddress(ctx context.Context, r *ipam.ReleaseAddressRequest) error {
	addr, err := parseAddress(r.Address)
	if err != nil {
		return err
	}
	id, err := parsePoolID(r.PoolID)
	if err != nil {
		return err
	}
	if !id.global && i.Early.Take(time.Now(), records.AddressKey(id.key, addr)) {
		i.claimer.Freed(id.key, addr)
		return nil
	}
	return i.claimer.ReleaseAddress(ctx, id.key, addr, id.global)
}

func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("%q is not an address", text)
	}
	return addr, nil
}
