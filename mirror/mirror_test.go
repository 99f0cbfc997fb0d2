package mirror

import (
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

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
