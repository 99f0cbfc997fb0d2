package driver

import (
	"errors"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// swarmID is a network's as swarm makes them: the same on all nodes.
const swarmID = "b846byc3n84dunxoyiiwunzn8"

func networkOf(t *testing.T, store kvstore.Store) (fabric.Network, bool) {
	t.Helper()
	item, err := store.Get(t.Context(), records.NetworkKey(swarmID))
	if err != nil {
		return fabric.Network{}, false
	}
	found, err := kvstore.Decode[fabric.Network](item)
	if err != nil {
		t.Fatal(err)
	}
	return found, true
}

// Nodes have a network of the swarm while they have tasks on it; it is there
// until the leader frees it, with what a crashed node left.
func TestSwarmNetworkStaysUntilFreed(t *testing.T) {
	store := storetest.New(t)
	leader, worker := startNode(t, store, 1, network.GlobalScope, true), startNode(t, store, 2, network.GlobalScope, true)
	options := map[string]string{"vni": "4242", "mtu": "1400"}
	for range 2 { // a new leader asks again
		answer := must[network.AllocateNetworkResponse](leader, "AllocateNetwork", &network.AllocateNetworkRequest{NetworkID: swarmID, Options: options})
		if len(answer.Options) != 2 || answer.Options["vni"] != "4242" {
			t.Fatalf("the workers would get the options %v", answer.Options)
		}
	}
	for round := range 2 {
		for _, node := range []*host{leader, worker, worker} { // a node asks again after a crash
			must[empty](node, "CreateNetwork", creation(swarmID, "10.50.0.0/24", "vni=4242"))
		}
		must[empty](leader, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: swarmID})
		if found, there := networkOf(t, store); !there || found.VNI != 4242 || !found.Swarm {
			t.Fatalf("round %d: the record is %+v, %v", round, found, there)
		}
	}
	must[network.CreateEndpointResponse](worker, "CreateEndpoint", endpointOn(swarmID, "e1", "10.50.0.9/24"))
	for range 2 {
		must[empty](leader, "FreeNetwork", &network.FreeNetworkRequest{NetworkID: swarmID})
	}
	for key := range contents(t, store) {
		if strings.Contains(key, swarmID) || strings.Contains(key, "10.50.0") {
			t.Errorf("left in the store: %s", key)
		}
	}
}

// A network of one node's scope that swarm spreads is never allocated nor freed:
// it goes with the last node, though mirrors run.
func TestNodeLocalNetworkGoesWithItsLastNode(t *testing.T) {
	store := storetest.New(t)
	first, second := startNode(t, store, 1, network.LocalScope, true), startNode(t, store, 2, network.LocalScope, true)
	for _, node := range []*host{first, second} {
		must[empty](node, "CreateNetwork", creation(swarmID, "10.50.0.0/24"))
	}
	must[empty](first, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: swarmID})
	if _, there := networkOf(t, store); !there {
		t.Fatal("it went while a node has it")
	}
	must[empty](second, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: swarmID})
	if found, there := networkOf(t, store); there {
		t.Errorf("it is left: %+v", found)
	}
}

// A dissolved swarm frees nothing: what its networks hold is given up by hand.
func TestRemoveNetwork(t *testing.T) {
	store := storetest.New(t)
	node := startNode(t, store, 1, network.GlobalScope, true)
	before := contents(t, store)
	must[empty](node, "CreateNetwork", creation(swarmID, "10.50.0.0/24", "vni=4242"))
	must[network.CreateEndpointResponse](node, "CreateEndpoint", endpointOn(swarmID, "e1", "10.50.0.9/24"))
	err := deleteByName(t, store, swarmID)
	if want := "network " + swarmID + ` has endpoints on h1: remove their containers, or the hosts with "causeway hosts rm"`; err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	must[empty](node, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: swarmID, EndpointID: "e1"})
	if err := deleteByName(t, store, swarmID); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, contents(t, store)); diff != "" {
		t.Errorf("left in the store:\n%s", diff)
	}
	if err := deleteByName(t, store, "foo"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestRemoveNetworkByName(t *testing.T) {
	store := storetest.New(t)
	foo := fabric.Network{ID: "n1", Name: "foo"}
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.NetworkKey(foo.ID), foo), kvstore.Put(records.NameKey(foo.Name), foo.ID),
	}}); err != nil {
		t.Fatal(err)
	}
	if err := deleteByName(t, store, "foo"); err != nil {
		t.Fatal(err)
	}
	if left := contents(t, store); len(left) > 0 {
		t.Errorf("left in the store: %v", left)
	}
}

// deleteByName is what "causeway networks rm" does.
func deleteByName(t *testing.T, store kvstore.Store, name string) error {
	return records.Records{Store: store}.DeleteNetwork(t.Context(), name)
}
