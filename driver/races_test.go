package driver

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// hooked is a store where something happens just before, or just after, the next
// commit.
type hooked struct {
	kvstore.Store
	before atomic.Pointer[func()]
	after  atomic.Pointer[error]
}

func (h *hooked) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	if do := h.before.Swap(nil); do != nil {
		(*do)()
	}
	revision, err := h.Store.Commit(ctx, txn)
	if lost := h.after.Swap(nil); lost != nil && err == nil {
		return 0, *lost
	}
	return revision, err
}

// meanwhile writes a record as somebody else does, before the next commit.
func meanwhile[T any](t *testing.T, h *hooked, key string, edit func(*T) []kvstore.Op) {
	do := func() {
		item, err := h.Get(t.Context(), key)
		if err != nil {
			t.Error(err)
			return
		}
		value, err := kvstore.Decode[T](item)
		if err != nil {
			t.Error(err)
		}
		then := edit(&value)
		if _, err := h.Store.Commit(t.Context(), kvstore.Txn{Then: append(then, kvstore.Put(key, value))}); err != nil {
			t.Error(err)
		}
	}
	h.before.Store(&do)
}

func TestEndpointIsErasedWhileItIsNamed(t *testing.T) {
	store := &hooked{Store: kvstore.NewMemory()}
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	meanwhile(t, store, records.EndpointKey(networkID(dockerID1), "e1"), func(e *fabric.Endpoint) []kvstore.Op { e.Name = "busybox"; return nil })
	must[empty](h1, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: "e1"})
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
}

func TestNetworkIsRemovedWhileItIsNamed(t *testing.T) {
	store := &hooked{Store: kvstore.NewMemory()}
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	id := networkID(dockerID1)
	meanwhile(t, store, records.NetworkKey(id), func(n *fabric.Network) []kvstore.Op {
		n.Name = "foo"
		return []kvstore.Op{kvstore.Put(records.NameKey("foo"), id)}
	})
	must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	for key := range contents(t, store) {
		if !strings.HasPrefix(key, "hosts/") && !strings.HasPrefix(key, "alive/") {
			t.Errorf("left in the store: %s", key)
		}
	}
}

// The answer to CreateEndpoint's commit is lost, and Docker sends no delete.
func TestEndpointOfALostAnswerIsFound(t *testing.T) {
	store := &hooked{Store: kvstore.NewMemory()}
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	lost := fmt.Errorf("no answer in time: %w", kvstore.ErrUnavailable)
	store.after.Store(&lost)
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24")); err == nil {
		t.Fatal("the lost answer is an answer")
	}
	eventually(t, "the endpoint is erased", func() bool {
		_, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]
		return !there
	})
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
}

// An engine that was killed sends no deletes for a network of its own IPAM, and
// gives the addresses of its dead containers out again at once.
func TestDeadEndpointMakesRoomAtOnce(t *testing.T) {
	store := kvstore.NewMemory()
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	h1.plane.set(func(l *ledger) { l.alive["e1"] = true })
	if _, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24")); err == nil {
		t.Fatal("a living container's address was given out")
	}
	h1.plane.set(func(l *ledger) { l.alive["e1"] = false })
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.2/24"))
	if _, there := contents(t, store)[records.EndpointKey(networkID(dockerID1), "e1")]; there {
		t.Error("the dead endpoint is left")
	}
}

// The engine died after CreateNetwork: nobody will ever know its name.
func TestHalfMadeNetworkIsForgotten(t *testing.T) {
	store := kvstore.NewMemory()
	h1, h2 := startNode(t, store, 1, network.LocalScope, true), startNode(t, store, 2, network.LocalScope, true)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	if err := h1.driver.Forget(t.Context(), dockerID1); err != nil {
		t.Fatal(err)
	}
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24"))
}
