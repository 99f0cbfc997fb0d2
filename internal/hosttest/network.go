package hosttest

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// CreateNetwork records the vxlan network id with subnet, as changed, and attaches
// the host to it.
func (h *Host) CreateNetwork(t testing.TB, id, subnet string, change ...func(*fabric.Network)) fabric.Network {
	t.Helper()
	network := fabric.Network{ID: id, Mode: fabric.ModeVXLAN, Subnets: []fabric.Subnet{{Prefix: netip.MustParsePrefix(subnet)}}}
	for _, change := range change {
		change(&network)
	}
	if err := h.Records.CreateNetwork(t.Context(), network, h.attaching(id), func(fabric.Network) error { return nil }); err != nil {
		t.Fatal(err)
	}
	network, err := h.Records.Network(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return network
}

// Attach attaches the host to a network that another created.
func (h *Host) Attach(t testing.TB, network fabric.Network) {
	t.Helper()
	if err := h.Records.Attach(t.Context(), network, h.attaching(network.ID)); err != nil {
		t.Fatal(err)
	}
}

// attaching uses Docker's own IPAM, under a NetworkID of this host's alone.
func (h *Host) attaching(id string) records.Attaching {
	return records.Attaching{DockerID: strings.Repeat(h.Name+id, 64)[:64], Attachment: records.Attachment{DockerIPAM: true}}
}

// PutEndpoint records an endpoint of the host, as CreateEndpoint does.
func (h *Host) PutEndpoint(t testing.TB, network fabric.Network, id, address string) {
	t.Helper()
	addr := netip.MustParseAddr(address)
	endpoint := fabric.Endpoint{
		ID: id, Network: network.ID, Host: h.Name, MAC: fabric.DeriveMAC(network.ID, addr),
		Addrs: []netip.Prefix{netip.PrefixFrom(addr, network.Subnets[0].Prefix.Bits())},
	}
	revision, err := h.Records.PutEndpoint(t.Context(), network, endpoint, "", true, func(context.Context, string) (bool, error) { return false, nil })
	if err == nil {
		err = h.Loop.Created(t.Context(), endpoint, revision)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Enter puts a container on the network: PutEndpoint, then Plug as Join does.
func (h *Host) Enter(t testing.TB, network fabric.Network, id, address string) {
	t.Helper()
	h.PutEndpoint(t, network, id, address)
	if _, err := h.Loop.Plug(t.Context(), network.ID, id); err != nil {
		t.Fatal(err)
	}
}

// Commit writes to the store as somebody else does.
func (h *Host) Commit(t testing.TB, ops ...kvstore.Op) {
	t.Helper()
	if _, err := h.Records.Store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
		t.Fatal(err)
	}
}

// Has says whether the store has a record under key.
func (h *Host) Has(t testing.TB, key string) bool {
	t.Helper()
	_, err := h.Records.Store.Get(t.Context(), key)
	return err == nil
}
