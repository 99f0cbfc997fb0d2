package mirror

import (
	"errors"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// The driver has a network named before a container comes to it, unless another host was
// first with the name.
func TestNameBeforeTheFirstContainer(t *testing.T) {
	const mine, other = "0123456789ab", "bbbbbbbbbbbb"
	dockerID := mine + strings.Repeat("0", 52)
	for name, test := range map[string]struct {
		first []kvstore.Op
		want  error
		named string
	}{
		"free": {named: "foo"},
		"taken": {want: records.ErrNameTaken, first: []kvstore.Op{
			kvstore.Put(records.NetworkKey(other), fabric.Network{ID: other, Name: "foo"}), kvstore.Put(records.NameKey("foo"), other),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			engine := newFakeEngine(object{"Id": dockerID, "Name": "foo", "Scope": "local", "Driver": "causeway"})
			r := start(t, engine, storetest.New(t), append(test.first,
				kvstore.Put(records.NetworkKey(mine), fabric.Network{ID: mine}),
				kvstore.Put(records.AttachmentKey("h2", dockerID), records.Attachment{Network: mine}))...)
			if err := r.mirror.Name(t.Context(), dockerID, mine); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			got, _, err := kvstore.Read[fabric.Network](t.Context(), r.store, records.NetworkKey(mine))
			if err != nil || got.Name != test.named {
				t.Errorf("its name is %q: %v", got.Name, err)
			}
		})
	}
}

// A host was released while it was away: its networks are attached again, and its
// containers, which lost their links, are named.
func TestComeback(t *testing.T) {
	const id = "0123456789ab"
	maker, mirrored := id+strings.Repeat("0", 52), strings.Repeat("f", 64)
	engine := newFakeEngine(
		object{
			"Id": maker, "Name": "foo", "Scope": "local", "Driver": "127.0.0.1:5000/causeway:0.1", "IPAM": object{"Driver": "default"},
			"Containers": object{"c1": object{"Name": "busybox", "EndpointID": "e1"}},
		},
		object{
			"Id": mirrored, "Name": "bar", "Scope": "local", "Driver": "causeway", "IPAM": object{"Driver": "causeway"},
			"Options": object{"causeway.network": "id:bbbbbbbbbbbb"},
		},
	)
	r := start(t, engine, storetest.New(t),
		kvstore.Put(records.NetworkKey(id), fabric.Network{ID: id, Name: "foo"}),
		kvstore.Put(records.NetworkKey("bbbbbbbbbbbb"), fabric.Network{ID: "bbbbbbbbbbbb", Name: "bar"}))
	for dockerID, want := range map[string]records.Attachment{
		maker: {Network: id, DockerIPAM: true}, mirrored: {Network: "bbbbbbbbbbbb"},
	} {
		r.waitFor("the attachment of "+want.Network, func() bool {
			got, _, err := kvstore.Read[records.Attachment](t.Context(), r.store, records.AttachmentKey("h2", dockerID))
			return err == nil && got == want
		})
	}
	r.tells("network foo: these containers lost their place in the cluster, restart them: busybox")
	r.put(kvstore.Put(records.EndpointKey(id, "e1"), fabric.Endpoint{ID: "e1", Network: id, Host: "h2"}))
	r.tells()
}
