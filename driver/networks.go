package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// tries bounds how often a transaction is made anew after a conflict.
const tries = 16

// createNetwork records a new network, or ties Docker's to one that is there.
// Docker may repeat the call (swarm does after a crash): the second changes nothing.
func (d *Driver) createNetwork(ctx context.Context, request *network.CreateNetworkRequest) error {
	opts, err := decodeOptions(request.Options)
	if err != nil {
		return err
	}
	subnets, own, err := decodeSubnets(request)
	if err != nil {
		return err
	}
	want := opts.network
	want.Subnets = subnets
	want.IPAM.Driver = "default"
	if own {
		want.IPAM.Driver = "causeway"
	}
	attachment := records.Attachment{OwnIPAM: !own, Pending: strings.HasPrefix(opts.join, fabric.NetworkIDPrefix)}
	for range tries {
		err := d.tie(ctx, request.NetworkID, want, opts.join, attachment)
		if !errors.Is(err, kvstore.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("network %s: %w too often, try again", orID(want), kvstore.ErrConflict)
}

// tie finds the network that Docker means, or makes it, and attaches this host to it.
func (d *Driver) tie(ctx context.Context, dockerID string, want fabric.Network, join string, attachment records.Attachment) error {
	found, err := d.findNetwork(ctx, dockerID, join)
	if errors.Is(err, kvstore.ErrNotFound) {
		want.ID, want.Name, want.Swarm = networkID(dockerID), join, ofSwarm(dockerID)
		return d.makeNetwork(ctx, dockerID, want, attachment)
	}
	if err != nil {
		return err
	}
	if err := compatible(found, want); err != nil {
		return err
	}
	if err := d.clearOfVTEP(found); err != nil {
		return err
	}
	if err := d.realisable(ctx, found); err != nil {
		return err
	}
	attachment.Network = found.ID
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(records.NetworkKey(found.ID))},
		Then: []kvstore.Op{kvstore.Put(records.AttachmentKey(d.Host.Name, dockerID), attachment)},
	}
	if attachment.OwnIPAM {
		if err := d.sharePools(ctx, found, &txn); err != nil {
			return err
		}
	}
	_, err = d.Store.Commit(ctx, txn)
	return err
}

// sharePools notes that an engine's own allocator has come to the network's pools.
func (d *Driver) sharePools(ctx context.Context, found fabric.Network, txn *kvstore.Txn) error {
	for _, subnet := range found.Subnets {
		pool, item, err := kvstore.Read[records.Pool](ctx, d.Store, records.PoolKey(subnet.Pool))
		if err != nil {
			return err
		}
		if !pool.DockerIPAM {
			pool.DockerIPAM = true
			txn.If = append(txn.If, kvstore.Unchanged(item))
			txn.Then = append(txn.Then, kvstore.Put(item.Key, pool))
		}
	}
	return nil
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
		return d.networkByID(ctx, networkID(dockerID))
	}
	if id, ok := strings.CutPrefix(join, fabric.NetworkIDPrefix); ok {
		found, err := d.networkByID(ctx, id)
		if errors.Is(err, kvstore.ErrNotFound) {
			return found, fmt.Errorf("network %s is not in the cluster", id)
		}
		return found, err
	}
	id, _, err := kvstore.Read[string](ctx, d.Store, records.NameKey(join))
	if err != nil {
		return fabric.Network{}, err
	}
	return d.networkByID(ctx, id)
}

// compatible refuses to join a network under options that it does not have.
func compatible(have, want fabric.Network) error {
	if !slices.Equal(prefixesOf(have.Subnets), prefixesOf(want.Subnets)) {
		return fmt.Errorf("network %s has the subnets %v in the cluster, not %v",
			orID(have), prefixesOf(have.Subnets), prefixesOf(want.Subnets))
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
		{"parent", have.Parent, want.Parent, want.Parent != ""},
		{"bridge", have.Bridge, want.Bridge, want.Bridge != ""},
		{"vlan", have.VLAN, want.VLAN, want.VLAN != 0},
		{"internal", have.Internal, want.Internal, true},
	} {
		if field.given && field.have != field.want {
			return fmt.Errorf("network %s has %s=%v in the cluster, not %v", orID(have), field.name, field.have, field.want)
		}
	}
	return nil
}

// makeNetwork commits a network that is new to the cluster.
func (d *Driver) makeNetwork(ctx context.Context, dockerID string, want fabric.Network, attachment records.Attachment) error {
	if err := d.clearOfVTEP(want); err != nil {
		return err
	}
	if want.Mode == fabric.ModeOVS && want.Tunnel == "" {
		want.Tunnel = "vxlan"
	}
	attachment.Network = want.ID
	txn := kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Missing(records.NetworkKey(want.ID))},
		Then: []kvstore.Op{kvstore.Put(records.AttachmentKey(d.Host.Name, dockerID), attachment)},
	}
	if want.Name != "" {
		txn.If = append(txn.If, kvstore.Missing(records.NameKey(want.Name)))
		txn.Then = append(txn.Then, kvstore.Put(records.NameKey(want.Name), want.ID))
	}
	if want.Mode != fabric.ModeUnderlay {
		if err := d.takeVNI(ctx, &want, &txn); err != nil {
			return err
		}
	}
	if err := d.realisable(ctx, want); err != nil {
		return err
	}
	if err := d.takePools(ctx, &want, attachment.OwnIPAM, &txn); err != nil {
		return err
	}
	txn.Then = append(txn.Then, kvstore.Put(records.NetworkKey(want.ID), want))
	_, err := d.Store.Commit(ctx, txn)
	return err
}

// clearOfVTEP refuses a subnet that would swallow the tunnels' own way.
func (d *Driver) clearOfVTEP(want fabric.Network) error {
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

func (d *Driver) realisable(ctx context.Context, want fabric.Network) error {
	plane, ok := d.Planes[want.Mode]
	if !ok {
		return fmt.Errorf("this causeway has no data plane for mode=%s", want.Mode)
	}
	return d.loop.do(ctx, func(ctx context.Context) error { return plane.Check(ctx, want) })
}

// takeVNI adds the user's VNI, or else the lowest free of ours, to the transaction.
func (d *Driver) takeVNI(ctx context.Context, want *fabric.Network, txn *kvstore.Txn) error {
	taken, err := d.Store.List(ctx, records.VNIsPrefix)
	if err != nil {
		return err
	}
	holder, clash := taken.Items[records.VNIKey(want.VNI)]
	switch {
	case want.VNI == 0:
		for want.VNI = firstVNI; ; want.VNI++ {
			if _, ok := taken.Items[records.VNIKey(want.VNI)]; !ok {
				break
			}
		}
	case clash:
		id, _ := kvstore.Decode[string](holder)
		return fmt.Errorf("vni %d is taken by network %s", want.VNI, d.networkName(ctx, id))
	}
	txn.If = append(txn.If, kvstore.Missing(records.VNIKey(want.VNI)))
	txn.Then = append(txn.Then, kvstore.Put(records.VNIKey(want.VNI), want.ID))
	return nil
}

// takePools binds the subnets' pools to the network: those that causeway's IPAM
// made for this host a moment ago, or new ones for Docker's own allocator.
func (d *Driver) takePools(ctx context.Context, want *fabric.Network, dockerIPAM bool, txn *kvstore.Txn) error {
	snapshot, err := d.Store.List(ctx, records.PoolsPrefix)
	if err != nil {
		return err
	}
	pools, err := kvstore.DecodeAll[records.Pool](snapshot, records.PoolsPrefix)
	if err != nil {
		return err
	}
	txn.If = append(txn.If, kvstore.NoneNewer(records.PoolsPrefix, snapshot.Revision))
	for i := range want.Subnets {
		subnet := &want.Subnets[i]
		pool, id := d.requestedPool(pools, subnet.Prefix)
		if id == "" {
			pool = records.Pool{Space: records.DefaultSpace, Prefix: subnet.Prefix}
			id = records.PoolID(pool.Space, pool.Prefix)
			if other, clash := records.Overlapping(pools, pool.Space, pool.Prefix); clash {
				return fmt.Errorf("subnet %s overlaps %s of network %s: give another --subnet, or have one picked by --ipam-driver causeway",
					pool.Prefix, other.Prefix, d.networkName(ctx, other.Network))
			}
		}
		subnet.Pool = id
		pool.Network, pool.DockerIPAM = want.ID, dockerIPAM
		txn.Then = append(txn.Then, kvstore.Put(records.PoolKey(id), pool))
		txn.Then = append(txn.Then, d.reserve(*subnet)...)
	}
	return nil
}

// requestedPool finds the pool of prefix that this host's Docker has requested
// and no network has yet.
func (d *Driver) requestedPool(pools map[string]records.Pool, prefix netip.Prefix) (records.Pool, string) {
	for id, pool := range pools {
		if pool.Prefix == prefix && pool.Network == "" && slices.Contains(pool.Users, d.Host.Name) {
			return pool, id
		}
	}
	return records.Pool{}, ""
}

// reserve claims the gateway and the aux addresses of a new network.
func (d *Driver) reserve(subnet fabric.Subnet) []kvstore.Op {
	var ops []kvstore.Op
	if subnet.Gateway.IsValid() {
		ops = append(ops, kvstore.Put(records.AddressKey(subnet.Pool, subnet.Gateway),
			records.Address{Kind: records.KindGateway, Host: d.Host.Name}))
	}
	for name, addr := range subnet.Aux {
		if addr != subnet.Gateway {
			ops = append(ops, kvstore.Put(records.AddressKey(subnet.Pool, addr),
				records.Address{Kind: records.KindAux, Host: d.Host.Name, Name: name}))
		}
	}
	return ops
}

// networkName is for messages: the name where there is one, else the ID.
func (d *Driver) networkName(ctx context.Context, id string) string {
	if id == "" {
		return "that is not causeway's"
	}
	found, err := d.networkByID(ctx, id)
	if err != nil {
		return id
	}
	return orID(found)
}

func orID(network fabric.Network) string {
	if network.Name != "" {
		return network.Name
	}
	return network.ID
}
