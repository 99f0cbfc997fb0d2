package mirror

import (
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

func TestCompare(t *testing.T) {
	local := func(id, name, scope string) network.Network {
		return network.Network{ID: id, Name: name, Scope: scope}
	}
	attached := func(pairs ...string) map[string]records.Attachment {
		attachments := map[string]records.Attachment{}
		for i := 0; i < len(pairs); i += 2 {
			attachments[pairs[i]] = records.Attachment{Network: pairs[i+1]}
		}
		return attachments
	}
	named := func(pairs ...string) map[string]fabric.Network {
		networks := map[string]fabric.Network{}
		for i := 0; i < len(pairs); i += 2 {
			networks[pairs[i]] = fabric.Network{ID: pairs[i], Name: pairs[i+1]}
		}
		return networks
	}
	at := func(networks map[string]fabric.Network, attachments map[string]records.Attachment, local []network.Network, lost map[string]bool) state {
		return state{networks: networks, attachments: attachments, local: local, lost: lost}
	}
	for name, test := range map[string]struct {
		state state
		want  []string
	}{
		"nothing to do":                 {at(named("n1", "foo"), attached("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), nil},
		"new here":                      {at(named("n1", ""), attached("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"adopt d1"}},
		"new elsewhere":                 {at(named("n1", "foo"), nil, nil, nil), []string{"create n1"}},
		"new elsewhere, still nameless": {at(named("n1", ""), nil, nil, nil), nil},
		"removed elsewhere":             {at(nil, attached("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"remove d1"}},
		"missing here":                  {at(named("n1", "foo"), nil, []network.Network{local("d9", "bridge", "local")}, nil), []string{"create n1"}},
		"replaced by another":           {at(named("n2", "foo"), attached("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"remove d1", "create n2"}},
		"just created":                  {at(named("n1", "foo"), map[string]records.Attachment{"d1": {Network: "n1", Pending: true}}, []network.Network{local("d1", "foo", "local")}, nil), []string{"settle d1"}},
		"removed here while others use it": {
			state{networks: named("n1", "foo"), removed: map[string]bool{"n1": true}}, []string{"put back n1"},
		},
		"being created":             {at(named("n1", "foo"), attached("d1", "n1"), nil, nil), nil},
		"lost by the engine":        {at(named("n1", "foo"), attached("d1", "n1"), nil, map[string]bool{"d1": true}), []string{"detach d1", "create n1"}},
		"a swarm's":                 {at(named("n1", ""), attached("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil), []string{"adopt d1"}},
		"a swarm's on another host": {at(map[string]fabric.Network{"n1": {ID: "n1", Name: "foo", Swarm: true}}, nil, nil, nil), nil},
		"a swarm's being removed":   {at(nil, attached("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil), nil},
		"another driver's":          {at(nil, nil, []network.Network{local("d1", "foo", "local")}, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, step := range compare(test.state) {
				verb := map[stepKind]string{
					adopt: "adopt", settle: "settle", remove: "remove", create: "create", putBack: "put back", detach: "detach",
				}[step.kind]
				got = append(got, verb+" "+step.scope().Object)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// A network of the engine that lost its attachment, for less than a removal takes
// and for longer.
func TestCompareStrays(t *testing.T) {
	const id = "0123456789ab"
	cluster := map[string]fabric.Network{id: {ID: id, Name: "foo"}}
	maker := network.Network{ID: id + strings.Repeat("0", 52), Name: "foo", Scope: "local", Driver: "127.0.0.1:5000/causeway:0.1"}
	mirrored := network.Network{
		ID: strings.Repeat("f", 64), Name: "foo", Scope: "local", Driver: "causeway",
		Options: map[string]string{"causeway.network": "id:" + id},
	}
	foreign := mirrored
	foreign.Driver = "bridge"
	for name, test := range map[string]struct {
		networks map[string]fabric.Network
		local    network.Network
		early    []stepKind
		late     []stepKind
	}{
		"of the host that created it":        {cluster, maker, nil, []stepKind{reattach}},
		"of the mirror":                      {cluster, mirrored, nil, []stepKind{reattach}},
		"of the mirror, gone":                {nil, mirrored, nil, []stepKind{remove}},
		"of the host that created it, gone":  {nil, maker, nil, nil},
		"of another driver with its options": {nil, foreign, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := state{networks: test.networks, local: []network.Network{test.local}, stray: map[string]bool{}, driver: "causeway"}
			for _, want := range [][]stepKind{test.early, test.late} {
				var got []stepKind
				for _, step := range compare(v) {
					got = append(got, step.kind)
				}
				if !slices.Equal(got, want) {
					t.Errorf("stray %v: got %v, want %v", v.stray, got, want)
				}
				v.stray[test.local.ID] = true
			}
		})
	}
}
