package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// attached gives the cluster network behind Docker's NetworkID on this host.
func (d *Driver) attached(ctx context.Context, dockerID string) (fabric.Network, records.Attachment, error) {
	attachment, _, err := kvstore.Read[records.Attachment](ctx, d.Store, records.AttachmentKey(d.Host.Name, dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return fabric.Network{}, records.Attachment{}, fmt.Errorf("network %s is not known to causeway on host %s: remove it and create it again", dockerID, d.Host.Name)
	}
	if err != nil {
		return fabric.Network{}, records.Attachment{}, err
	}
	found, err := d.networkByID(ctx, attachment.Network)
	if errors.Is(err, kvstore.ErrNotFound) {
		return fabric.Network{}, records.Attachment{}, fmt.Errorf("network %s was removed from the cluster: remove it here and create it again", attachment.Network)
	}
	return found, attachment, err
}

// createEndpoint claims the container's addresses and records the endpoint. It
// returns the MAC when Docker left it to us, else the zero MAC.
func (d *Driver) createEndpoint(ctx context.Context, request *network.CreateEndpointRequest) (fabric.MAC, error) {
	found, attachment, err := d.attached(ctx, request.NetworkID)
	if err != nil {
		return fabric.MAC{}, err
	}
	if err := portsFit(found, request); err != nil {
		return fabric.MAC{}, err
	}
	endpoint, derived, err := d.newEndpoint(found, request)
	if err != nil {
		return fabric.MAC{}, err
	}
	if attachment.OwnIPAM {
		if err := d.probe(ctx, found, endpoint); err != nil {
			return fabric.MAC{}, err
		}
	}
	for range tries {
		err := d.putEndpoint(ctx, found, endpoint, attachment.OwnIPAM)
		if err == nil {
			if derived {
				return endpoint.MAC, nil
			}
			return fabric.MAC{}, nil
		}
		if !errors.Is(err, kvstore.ErrConflict) {
			return fabric.MAC{}, err
		}
	}
	return fabric.MAC{}, fmt.Errorf("endpoint on network %s: %w too often, try again", orID(found), kvstore.ErrConflict)
}

// portsFit refuses -p where there is no NAT to publish a port by: what is
// dropped silently is looked for in vain.
func portsFit(found fabric.Network, request *network.CreateEndpointRequest) error {
	ports, _ := request.Options[labelPorts].([]any)
	if found.Mode == fabric.ModeUnderlay && len(ports) > 0 {
		return fmt.Errorf("network %s is the physical one: a container is reached there at its own address and no port of it can be published; leave -p out", orID(found))
	}
	return nil
}

// newEndpoint reads Docker's request; derived says that the MAC is ours.
func (d *Driver) newEndpoint(found fabric.Network, request *network.CreateEndpointRequest) (endpoint fabric.Endpoint, derived bool, err error) {
	endpoint = fabric.Endpoint{ID: request.EndpointID, Network: found.ID, Host: d.Host.Name}
	if request.EndpointID == "" {
		return endpoint, false, errors.New("the request names no endpoint")
	}
	sent := network.EndpointInterface{}
	if request.Interface != nil {
		sent = *request.Interface
	}
	for _, text := range []string{sent.Address, sent.AddressIPv6} {
		if text == "" {
			continue
		}
		address, err := parseAddress(text)
		if err != nil {
			return endpoint, false, fmt.Errorf("endpoint on network %s: %w", orID(found), err)
		}
		subnet, ok := subnetOf(found, address.Addr())
		if !ok {
			return endpoint, false, fmt.Errorf("address %s is in no subnet of network %s, which has %v", address.Addr(), orID(found), prefixesOf(found.Subnets))
		}
		endpoint.Addrs = append(endpoint.Addrs, netip.PrefixFrom(address.Addr(), subnet.Prefix.Bits()))
	}
	if len(endpoint.Addrs) == 0 {
		return endpoint, false, fmt.Errorf("endpoint on network %s came without an address", orID(found))
	}
	if sent.MacAddress == "" {
		endpoint.MAC = fabric.DeriveMAC(found.ID, endpoint.Addrs[0].Addr())
		return endpoint, true, nil
	}
	endpoint.MAC, err = fabric.ParseMAC(sent.MacAddress)
	if err == nil && !endpoint.MAC.IsUnicast() {
		err = fmt.Errorf("MAC %s is not a station's address", endpoint.MAC)
	}
	return endpoint, false, err
}

// deleteEndpoint erases the endpoint; the loop then takes its link away. The
// addresses rest at once where Docker's own allocator gave them; causeway's IPAM
// is told by ReleaseAddress. An unknown endpoint is a success.
func (d *Driver) deleteEndpoint(ctx context.Context, dockerID, id string) error {
	attachment, _, err := kvstore.Read[records.Attachment](ctx, d.Store, records.AttachmentKey(d.Host.Name, dockerID))
	if errors.Is(err, kvstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.loop.records.erase(ctx, attachment.Network, id, attachment.OwnIPAM)
}
