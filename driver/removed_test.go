package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/records"
)

// A network stays in the cluster while any host has a container that is configured
// for it, whether that runs or not.
func TestStoppedContainersKeepTheirNetwork(t *testing.T) {
	id := networkID(dockerID1)
	for name, test := range map[string]struct {
		here, elsewhere bool
		err             error
		kept            bool
	}{
		"nobody":                   {},
		"here":                     {here: true, kept: true},
		"elsewhere":                {elsewhere: true, kept: true},
		"the engine does not tell": {here: true, err: errors.New("busy")},
	} {
		t.Run(name, func(t *testing.T) {
			store, asked := storetest.New(t), &engine{configured: test.here}
			h1 := startWith(t, store, 1, func(c *Config) { c.Engine, c.Host.Mirror = asked, true })
			h2 := startWith(t, store, 2, func(c *Config) { c.Host.Mirror = true })
			must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
			if _, err := h1.driver.records.NameNetwork(t.Context(), id, "foo", func(*fabric.Network) {}); err != nil {
				t.Fatal(err)
			}
			must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=id:"+id))
			count := 0
			if test.elsewhere {
				count = 1
			}
			if err := h2.driver.records.SetConfigured(t.Context(), id, count); err != nil {
				t.Fatal(err)
			}
			asked.err = test.err
			must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
			_, there := contents(t, store)[records.NetworkKey(id)]
			if there != test.kept || !slices.Contains(asked.removing, id) {
				t.Errorf("in the cluster: %v, want %v; the mirror heard of %v", there, test.kept, asked.removing)
			}
		})
	}
}

// A network whose name another host took first takes no container: it is to go.
func TestContainerOnANetworkThatIsToGo(t *testing.T) {
	store, asked := storetest.New(t), &engine{naming: fmt.Errorf("network foo cannot be named: %w", records.ErrNameTaken)}
	h1 := startWith(t, store, 1, func(c *Config) { c.Engine = asked })
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	before := contents(t, store)
	_, err := call[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	if err == nil || !strings.Contains(err.Error(), "another host has created a network of this one's name first") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff(before, contents(t, store)); diff != "" {
		t.Errorf("it has changed (-before +after):\n%s", diff)
	}
	asked.naming = errors.New("the engine is busy")
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
}

// While a removed network is to come back, another of its name is refused; the
// mirror's own is not.
func TestCreationUnderARemovedName(t *testing.T) {
	asked := &engine{err: errors.New("network foo exists in the cluster")}
	h1 := startWith(t, storetest.New(t), 1, func(c *Config) { c.Engine = asked })
	if _, err := call[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24")); err == nil || !strings.Contains(err.Error(), "exists in the cluster") {
		t.Errorf("got %v", err)
	}
	asked.err = nil
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	asked.err = context.DeadlineExceeded
	must[empty](h1, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=id:"+networkID(dockerID1)))
}
