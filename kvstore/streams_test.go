package kvstore

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// A connection that is open when its host's certificate is revoked is of no more
// use, and that of another host goes on.
func TestRevokedConnectionEnds(t *testing.T) {
	c := newClosedStore(t)
	h2, h3 := c.trusted("h2"), c.trusted("h3")
	revoked, other := c.open(h2), c.open(h3)
	must(t, revoked.Health(t.Context()))
	must(t, other.Health(t.Context()))
	watch := revoked.client.Watch(t.Context(), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if created := <-watch; !created.Created {
		t.Fatalf("no watch: %v", created)
	}
	certificate, err := h2.Certificate()
	must(t, err)
	c.members["h1"].Revoke([]string{certificate.SerialNumber.String()})
	select {
	case response, open := <-watch:
		if open && response.Err() == nil {
			t.Errorf("the watch goes on: %v", response)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch goes on")
	}
	if _, err := revoked.client.Get(t.Context(), "/x"); codeOf(err) != codes.PermissionDenied {
		t.Errorf("a read: %v", err)
	}
	must(t, other.Health(t.Context()))
	c.members["h1"].Revoke(nil)
	must(t, revoked.Health(t.Context()))
}
