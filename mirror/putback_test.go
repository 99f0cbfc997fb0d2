package mirror

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

const (
	netID  = "0123456789ab"
	oldID  = "1111111111111111111111111111111111111111111111111111111111111111"
	putMsg = "network foo was removed here and put back: in use on h1"
)

// shared is network foo on h1 and h2, with containers of h1 that are configured
// for it, and a mirror of h2.
func shared(t *testing.T, store kvstore.Store, configured int) (*fakeEngine, *rig) {
	engine := newFakeEngine(object{"Id": oldID, "Name": "foo", "Scope": "local", "Driver": "causeway"})
	r := start(t, engine, store,
		kvstore.Put(records.NetworkKey(netID), fabric.Network{ID: netID, Name: "foo"}),
		kvstore.Put(records.NameKey("foo"), netID),
		kvstore.Put(records.AttachmentKey("h2", oldID), records.Attachment{Network: netID}),
		kvstore.Put(records.MemberKey(netID, "h2"), records.Member{Mirror: true}),
		kvstore.Put(records.MemberKey(netID, "h1"), records.Member{Mirror: true, Configured: configured}))
	engine.creating = r.attaches(netID)
	r.waitFor("a first pass", func() bool {
		r.mirror.putBacks.mu.Lock()
		defer r.mirror.putBacks.mu.Unlock()
		return r.mirror.putBacks.clusters[oldID] == netID
	})
	return engine, r
}

// detached is what the driver does when the engine removes the network, which the
// engine lists no more by then.
func (r *rig) detached(engine *fakeEngine) {
	engine.drop(oldID)
	r.mirror.Removing(oldID, netID)
	if err := r.mirror.records().Detach(r.Context(), oldID, false); err != nil {
		r.Fatal(err)
	}
}

func TestPutBack(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 1)
	r.detached(engine)
	engine.destroy(t, oldID)
	r.tells(putMsg)
	if !engine.has("foo") {
		t.Fatal("the network is not back")
	}
	id := engine.networks[len(engine.networks)-1]["Id"].(string)
	engine.emit(t, "network connect", id, object{"container": "c1"})
	r.tells()
}

// What h1 had was removed a moment before, and h1's mirror is late.
func TestPutBackOfAnUnusedNetwork(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 1)
	r.detached(engine)
	engine.destroy(t, oldID)
	r.put(kvstore.Put(records.MemberKey(netID, "h1"), records.Member{Mirror: true}))
	r.waitFor("the network is gone from the cluster", func() bool {
		_, known := r.mirror.networks.Get(netID)
		return !known
	})
	if engine.has("foo") {
		t.Error("the network is back")
	}
	r.tells()
}

// The store is away while a user removes the network: the driver does nothing.
func TestPutBackAfterAnOutage(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 1)
	engine.drop(oldID)
	lists := engine.lists.Load()
	r.mirror.kick() // a pass comes before the event
	r.waitFor("two passes", func() bool { r.mirror.kick(); return engine.lists.Load() >= lists+2 })
	engine.destroy(t, oldID)
	r.tells(strings.Replace(putMsg, "here", "here while the store was away", 1))
	if !engine.has("foo") {
		t.Error("the network is not back")
	}
}

// While the engine creates a network of the removed one's name, that cannot come
// back: so the driver learns which name it is.
func TestCreationWhileANetworkComesBack(t *testing.T) {
	engine, r := shared(t, storetest.New(t), 1)
	engine.busy.Lock()
	r.detached(engine)
	engine.destroy(t, oldID)
	err := r.mirror.PutBack(t.Context())
	const want = "network foo exists in the cluster with subnet , in use on h1: it can be created with other settings when no container is configured for it there"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	engine.busy.Unlock()
	r.tells(putMsg)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.mirror.PutBack(ctx); err != nil {
		t.Errorf("another network is refused: %v", err)
	}
}
