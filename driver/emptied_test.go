package driver

import (
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// A store that was replaced by an empty one cuts no running container off.
func TestEmptiedStoreCutsNothing(t *testing.T) {
	first, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	listen := first.Endpoint()
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{listen}, Identity: kvstore.Identity{Mark: records.HostKey("h1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h1 := startHost(t, store, 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(h1, dockerID1, "e1", "192.168.1.2/24")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir(), Listen: listen})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { second.Close() })
	const want = "--store-reset"
	eventually(t, "a call is refused for it", func() bool {
		_, err := call[empty](h1, "CreateNetwork", creation(dockerID2, "192.168.2.0/24"))
		return err != nil && strings.Contains(err.Error(), want)
	})
	time.Sleep(time.Second)
	if s, ok := h1.Plane.Segment(networkID(dockerID1)); !ok || len(s.Local) != 1 {
		t.Errorf("the container's segment: %v, there %v", s.Local, ok)
	}
	h1.Stop()
}
