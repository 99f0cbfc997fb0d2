package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// createEndpoint claims the container's addresses and records the endpoint. It
// answers with the MAC where Docker left that to us: Docker refuses an answer that
// repeats what it has set itself.
func (d *Driver) createEndpoint(ctx context.Context, request *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	if err := checkIDs(request.NetworkID, request.EndpointID); err != nil {
		return nil, err
	}
	found, attachment, err := d.attached(ctx, request.NetworkID)
	if err != nil {
		return nil, err
	}
	if err := checkPorts(found, request); err != nil {
		return nil, err
	}
	if err := d.checkName(ctx, found, request.NetworkID); err != nil {
		return nil, err
	}
	endpoint, derived, err := d.newEndpoint(found, request)
	if err != nil {
		return nil, err
	}
	if err := d.putEndpoint(ctx, found, endpoint, request.NetworkID, attachment.DockerIPAM); err != nil {
		return nil, err
	}
	answer := &network.CreateEndpointResponse{Interface: &network.EndpointInterface{}}
	if derived {
		answer.Interface.MacAddress = endpoint.MAC.String()
	}
	return answer, nil
}

// attached gives the cluster network behind Docker's NetworkID: from what this host has
// in view, so that it may be gone since, or else from the store.
func (d *Driver) attached(ctx context.Context, dockerID string) (fabric.Network, records.Attachment, error) {
	if network, attachment, ok := d.Reconciler.Attached(dockerID); ok {
		return network, attachment, nil
	}
	return d.records.Attached(ctx, dockerID)
}

// checkName refuses a container on a network that was created here a moment ago and whose
// name another host took first: it is about to be removed, and a container would hold it.
func (d *Driver) checkName(ctx context.Context, found fabric.Network, dockerID string) error {
	if found.Name != "" || found.Swarm || d.Engine == nil {
		return nil
	}
	if err := d.Engine.Name(ctx, dockerID, found.ID); errors.Is(err, records.ErrNameTaken) {
		return errors.New("another host has created a network of this one's name first, which takes its place here in a moment: start the container again")
	}
	return nil // what else is wrong with a name stops no container
}

// putEndpoint records the endpoint, probes addresses that Docker's own allocator
// gave, and hands the endpoint to the reconciler. The claim comes first: two
// hosts never probe for one address, and so never take each other for its holder.
func (d *Driver) putEndpoint(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint, dockerID string, dockerIPAM bool) error {
	revision, err := d.records.PutEndpoint(ctx, found, endpoint, dockerID, dockerIPAM, func(ctx context.Context, other string) (bool, error) {
		return d.dead(ctx, found, dockerID, other)
	})
	if errors.Is(err, kvstore.ErrUnavailable) {
		// It may be in the store all the same, and Docker sends no delete: once it is
		// in view it is collected.
		go func() { _ = d.Reconciler.Follow(context.WithoutCancel(ctx), found.ID, 0) }()
	}
	if err != nil {
		return err
	}
	if dockerIPAM {
		err = d.probe(ctx, found, endpoint)
	}
	if err == nil {
		err = d.Reconciler.Created(ctx, endpoint, revision)
	}
	if err != nil {
		_, failed := d.records.DeleteEndpoint(context.WithoutCancel(ctx), found, endpoint.ID, dockerIPAM)
		return errors.Join(err, failed)
	}
	return nil
}

// dead says whether an endpoint of this host is gone whose address Docker's own
// allocator has given out again. A link in a container may outlive what Docker
// knows of it: a runc that a killed engine left behind keeps it.
func (d *Driver) dead(ctx context.Context, network fabric.Network, dockerID, endpoint string) (bool, error) {
	alive, err := d.Reconciler.Alive(ctx, network, endpoint)
	if err != nil || !alive || d.Engine == nil {
		return err == nil && !alive, err
	}
	known, err := d.Engine.HasEndpoint(ctx, dockerID, endpoint)
	return err == nil && !known, err
}

// probe asks the wire about addresses that Docker's own allocator has picked;
// causeway's IPAM has asked by itself.
func (d *Driver) probe(ctx context.Context, found fabric.Network, endpoint fabric.Endpoint) error {
	if d.Probe == nil || found.Mode != fabric.ModeUnderlay {
		return nil
	}
	for _, address := range endpoint.Addrs {
		holder, taken, err := d.Probe(ctx, found, address.Addr())
		if err != nil {
			return err
		}
		if taken {
			return fmt.Errorf("address %s on network %s is in use by the machine %s on the wire: start the container with another --ip, or create the network with --ipam-driver causeway, which skips such addresses",
				address.Addr(), found.Label(), holder)
		}
	}
	return nil
}

// checkPorts refuses -p where there is no NAT to publish a port by: an option that has
// no effect must not go unnoticed.
func checkPorts(found fabric.Network, request *network.CreateEndpointRequest) error {
	ports, _ := request.Options[labelPorts].([]any)
	if found.Mode == fabric.ModeUnderlay && len(ports) > 0 {
		return fmt.Errorf("network %s is the physical one: a container is reached there at its own address and no port of it can be published; leave -p out", found.Label())
	}
	return nil
}

// newEndpoint reads Docker's request; derived says that the MAC is ours.
func (d *Driver) newEndpoint(found fabric.Network, request *network.CreateEndpointRequest) (endpoint fabric.Endpoint, derived bool, err error) {
	endpoint = fabric.Endpoint{ID: request.EndpointID, Network: found.ID, Host: d.Host.Name}
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
			return endpoint, false, fmt.Errorf("endpoint on network %s: %w", found.Label(), err)
		}
		subnet, ok := records.SubnetOf(found, address.Addr())
		if !ok {
			return endpoint, false, fmt.Errorf("address %s is in no subnet of network %s, which has %v", address.Addr(), found.Label(), prefixesOf(found.Subnets))
		}
		if !records.Assignable(subnet.Prefix, address.Addr()) {
			return endpoint, false, fmt.Errorf("address %s on network %s is that of the subnet %s itself, or its broadcast address: start the container with another --ip", address.Addr(), found.Label(), subnet.Prefix)
		}
		endpoint.Addrs = append(endpoint.Addrs, netip.PrefixFrom(address.Addr(), subnet.Prefix.Bits()))
	}
	if len(endpoint.Addrs) == 0 {
		return endpoint, false, fmt.Errorf("endpoint on network %s came without an address", found.Label())
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

// deleteEndpoint deletes the endpoint; the reconciler then removes its link. The
// addresses are quarantined with it: Docker's own allocator does not tell when it
// releases one, and where causeway's IPAM is asked to, it knows that it was. An unknown endpoint is a success.
func (d *Driver) deleteEndpoint(ctx context.Context, request *network.DeleteEndpointRequest) error {
	if err := checkIDs(request.NetworkID, request.EndpointID); err != nil {
		return err
	}
	ctx = kvstore.FailFast(ctx)
	found, attachment, attached := d.Reconciler.Attached(request.NetworkID)
	if !attached {
		var err error
		attachment, _, err = kvstore.Read[records.Attachment](ctx, d.Store, records.AttachmentKey(d.Host.Name, request.NetworkID))
		if errors.Is(err, kvstore.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		found = fabric.Network{ID: attachment.Network}
	}
	early := !attachment.DockerIPAM && d.Early != nil
	released, err := d.records.DeleteEndpoint(ctx, found, request.EndpointID, attachment.DockerIPAM || early)
	if early {
		d.Early.Add(time.Now(), released...)
	}
	return err
}
