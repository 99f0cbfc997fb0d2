package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// cluster is two hosts of one version, that live, and a network with an endpoint.
func cluster() Records {
	host := func(name, vtep string) fabric.Host {
		return fabric.Host{Name: name, VTEP: netip.MustParseAddr(vtep), Version: "1.0"}
	}
	return Records{
		Hosts:    map[string]fabric.Host{"h1": host("h1", "10.99.0.1"), "h2": host("h2", "10.99.0.2")},
		Alive:    map[string]records.Alive{"h1": {}, "h2": {}},
		Networks: map[string]fabric.Network{"n1": {ID: "n1", Name: "foo", Subnets: []fabric.Subnet{{Pool: "p1", Prefix: netip.MustParsePrefix("10.1.0.0/28")}}}},
		Endpoints: map[string]fabric.Endpoint{
			"n1/e1": {ID: "e1", Network: "n1", Host: "h2"},
		},
		Addresses: map[string]records.Address{"p1/10.1.0.2": {Kind: records.KindEndpoint, Host: "h2", Endpoint: "e1"}},
	}
}

func inputs(r Records) *Inputs {
	return &Inputs{Records: func(context.Context) (Records, error) { return r, nil }}
}

func TestNothingIsWrongWithASoundCluster(t *testing.T) {
	for name, look := range map[string]func(context.Context, *Inputs) ([]Finding, error){
		"VTEPs": sharedVTEPs, "dead hosts": deadHosts, "versions": versions, "pools": pools, "addresses": leakedAddresses,
	} {
		t.Run(name, func(t *testing.T) {
			found, err := look(t.Context(), inputs(cluster()))
			wantNone(t, found, err)
		})
	}
}

func TestHostsOfOneVTEP(t *testing.T) {
	r := cluster()
	clone := r.Hosts["h2"]
	clone.Name, clone.Display = "h3", "clone"
	r.Hosts["h3"] = clone
	found, err := sharedVTEPs(t.Context(), inputs(r))
	if f := wantOne(t, found, err, "2 hosts have the VTEP 10.99.0.2"); f.Scope != "hosts clone, h2" || !slices.Equal(f.About, []string{"host/h2", "host/h3"}) {
		t.Error(f.Scope)
	}
}

func TestDeadHostThatHoldsAddresses(t *testing.T) {
	r := cluster()
	delete(r.Alive, "h2")
	found, err := deadHosts(t.Context(), inputs(r))
	if f := wantOne(t, found, err, "causeway does not run on host h2"); !strings.Contains(f.Evidence, "holds 1 addresses") {
		t.Error(f.Evidence)
	}
	delete(r.Addresses, "p1/10.1.0.2")
	found, err = deadHosts(t.Context(), inputs(r))
	wantNone(t, found, err) // nobody has to reckon with it
}

func TestVersionsApart(t *testing.T) {
	r := cluster()
	old := r.Hosts["h2"]
	old.Version = "0.9"
	r.Hosts["h2"] = old
	found, err := versions(t.Context(), inputs(r))
	if f := wantOne(t, found, err, "different versions"); f.Evidence != "0.9 on h2, 1.0 on h1" {
		t.Error(f.Evidence)
	}
}

func TestPoolIsFullOrNearly(t *testing.T) {
	r := cluster() // 14 addresses
	for n := range 14 {
		r.Addresses[fmt.Sprintf("p1/10.1.0.%d", n+1)] = records.Address{Kind: records.KindEndpoint, Host: "h1"}
	}
	found, err := pools(t.Context(), inputs(r))
	if f := wantOne(t, found, err, "The subnet 10.1.0.0/28 of network foo is full"); f.Severity != Problem {
		t.Error(f.Severity)
	}
	r.Addresses["p1/10.1.0.14"] = records.Address{Kind: records.KindFree}
	found, err = pools(t.Context(), inputs(r))
	if f := wantOne(t, found, err, "nearly full"); f.Severity != Warning || !strings.HasPrefix(f.Evidence, "13 of its 14") {
		t.Error(f)
	}
	r.Addresses["p1/10.1.0.13"] = records.Address{Kind: records.KindFree}
	found, err = pools(t.Context(), inputs(r))
	wantNone(t, found, err)
}

// An address whose endpoint came after the tables were read is none.
func TestAddressWithoutAnEndpoint(t *testing.T) {
	r, store := cluster(), storetest.New(t)
	delete(r.Endpoints, "n1/e1")
	in := inputs(r)
	in.Store = store
	claim := kvstore.Put(records.AddressesPrefix+"p1/10.1.0.2", r.Addresses["p1/10.1.0.2"])
	write := func(ops ...kvstore.Op) {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	write(claim)
	found, err := leakedAddresses(t.Context(), in)
	if f := wantOne(t, found, err, "held for containers that there are not"); f.Evidence != "10.1.0.2 of host h2" {
		t.Error(f.Evidence)
	}
	write(kvstore.Put(records.EndpointKey("n1", "e1"), fabric.Endpoint{ID: "e1"}))
	found, err = leakedAddresses(t.Context(), in)
	wantNone(t, found, err)
}
