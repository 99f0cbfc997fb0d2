package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// createNetwork records a new network, or attaches Docker's to one that is there.
// Docker may repeat the call (swarm does after a crash): the second changes nothing.
func (d *Driver) createNetwork(ctx context.Context, request *network.CreateNetworkRequest) error {
	if !validNetworkID(request.NetworkID) {
		return fmt.Errorf("NetworkID %q is not one of Docker's", request.NetworkID)
	}
	opts, err := decodeOptions(request.Options)
	if err != nil {
		return err
	}
	subnets, dockerIPAM, err := decodeSubnets(request)
	if err != nil {
		return err
	}
	want := opts.network
	want.Subnets = subnets
	want.IPAM.Driver = "causeway"
	if dockerIPAM {
		want.IPAM.Driver = "default"
	}
	ofMirror := strings.HasPrefix(opts.join, fabric.NetworkIDPrefix)
	attaching := records.Attaching{
		DockerID: request.NetworkID,
		Mirror:   d.Host.Mirror,
		// What another host's user has forced is not forced here: the mirror hands
		// all options on.
		Attachment: records.Attachment{DockerIPAM: dockerIPAM, Pending: ofMirror, Force: opts.force && !ofMirror},
	}
	if err := d.checkRemoved(ctx, request.NetworkID, ofMirror); err != nil {
		return err
	}
	return kvstore.Retry(ctx, "network "+want.Label(), func() error { return d.attach(ctx, want, opts.join, attaching) })
}

// attach finds the network that Docker means, or creates it, and attaches this host to it.
func (d *Driver) attach(ctx context.Context, want fabric.Network, join string, attaching records.Attaching) error {
	found, err := d.findNetwork(ctx, attaching.DockerID, join)
	if errors.Is(err, kvstore.ErrNotFound) {
		want.ID, want.Name, want.Swarm = networkID(attaching.DockerID), join, ofSwarm(attaching.DockerID)
		if want.Mode == fabric.ModeOVS && want.Tunnel == "" {
			want.Tunnel = "vxlan"
		}
		if want.Mode == fabric.ModeRouted && want.Via == "" {
			want.Via = fabric.ViaAuto
		}
		return d.records.CreateNetwork(ctx, want, attaching, func(n fabric.Network) error { return d.check(ctx, n, attaching.Force) })
	}
	if err != nil {
		return err
	}
	if err := compatible(found, want); err != nil {
		return err
	}
	if err := d.check(ctx, found, attaching.Force); err != nil {
		return err
	}
	return d.records.Attach(ctx, found, attaching)
}

// check says why this host cannot have network.
func (d *Driver) check(ctx context.Context, network fabric.Network, force bool) error {
	network.Force = force
	if err := d.checkVTEPNet(network); err != nil {
		return err
	}
	return d.Reconciler.Check(ctx, network)
}

// validNetworkID says whether id is a NetworkID as engines (64 hex digits) and swarm
// (25 letters and digits) make them: it becomes part of records' keys.
func validNetworkID(id string) bool {
	return len(id) >= 12 && len(id) <= 64 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z')
	})
}

// networkID gives the cluster's ID for the network that Docker knows under
// dockerID here. Swarm uses one ID on all nodes; it is kept whole.
func networkID(dockerID string) string {
	if ofSwarm(dockerID) {
		return dockerID
	}
	return dockerID[:12]
}

// findNetwork looks for the network that join names ("id:" and an ID, or a
// name), else for the one that was made under dockerID. ErrNotFound says that it
// is to be made now.
func (d *Driver) findNetwork(ctx context.Context, dockerID, join string) (fabric.Network, error) {
	if join == "" {
		return d.records.Network(ctx, networkID(dockerID))
	}
	if id, ok := strings.CutPrefix(join, fabric.NetworkIDPrefix); ok {
		found, err := d.records.Network(ctx, id)
		if errors.Is(err, kvstore.ErrNotFound) {
			return found, fmt.Errorf("network %s is not in the cluster", id)
		}
		return found, err
	}
	return d.records.NetworkNamed(ctx, join)
}

// compatible refuses to join a network under options that it does not have.
func compatible(have, want fabric.Network) error {
	if !slices.Equal(prefixesOf(have.Subnets), prefixesOf(want.Subnets)) {
		return fmt.Errorf("network %s has the subnets %v in the cluster, not %v",
			have.Label(), prefixesOf(have.Subnets), prefixesOf(want.Subnets))
	}
	for _, field := range []struct {
		name       string
		have, want any
		given      bool
	}{
		{"mode", have.Mode, want.Mode, want.Options["mode"] != ""},
		{"vni", have.VNI, want.VNI, want.VNI != 0},
		{"mtu", have.MTU, want.MTU, want.MTU != 0},
		{"tunnel", have.Tunnel, want.Tunnel, want.Tunnel != ""},
		{"via", have.Via, want.Via, want.Via != ""},
		{"block", have.Block, want.Block, want.Block != 0},
		{"parent", have.Parent, want.Parent, want.Parent != ""},
		{"bridge", have.Bridge, want.Bridge, want.Bridge != ""},
		{"vlan", have.VLAN, want.VLAN, want.VLAN != 0},
		{"internal", have.Internal, want.Internal, true},
		{"encrypted", have.Encrypted, want.Encrypted, want.Encrypted},
	} {
		if field.given && field.have != field.want {
			return fmt.Errorf("network %s has %s=%v in the cluster, not %v", have.Label(), field.name, field.have, field.want)
		}
	}
	return nil
}

// checkVTEPNet refuses a subnet that overlaps the network of the VTEPs, through which
// the tunnelled packets go.
func (d *Driver) checkVTEPNet(want fabric.Network) error {
	if want.Mode == fabric.ModeUnderlay {
		return nil
	}
	for _, subnet := range want.Subnets {
		if subnet.Prefix.Overlaps(d.VTEPNet) {
			return fmt.Errorf("subnet %s overlaps %s, the network of this host's VTEP %s", subnet.Prefix, d.VTEPNet, d.Host.VTEP)
		}
	}
	return nil
}

// deleteNetwork detaches Docker's network. The cluster's is deleted with the last one,
// unless swarm's leader is to free it.
//
// A delete does not wait for a store that is known to be away: engines ignore the
// answer, send one delete after the other while they boot, and what they forget is
// collected later.
func (d *Driver) deleteNetwork(ctx context.Context, request *network.DeleteNetworkRequest) error {
	if request.NetworkID == "" {
		return errNoNetwork
	}
	return d.detach(kvstore.FailFast(ctx), request.NetworkID)
}

// freeNetwork deletes a network that swarm's leader frees.
func (d *Driver) freeNetwork(ctx context.Context, request *network.FreeNetworkRequest) error {
	if request.NetworkID == "" {
		return errNoNetwork
	}
	return d.records.DeleteSwarmNetwork(ctx, networkID(request.NetworkID))
}

// ofSwarm says that swarm made a network: it has one ID on all nodes, which is
// shorter than an engine's own.
func ofSwarm(dockerID string) bool { return len(dockerID) != 64 }

// freedByLeader says that a network's record stays until swarm's leader frees it:
// nodes have the network only while a task of theirs is on it.
func (d *Driver) freedByLeader(dockerID string) bool {
	return d.Scope == network.GlobalScope && ofSwarm(dockerID)
}
