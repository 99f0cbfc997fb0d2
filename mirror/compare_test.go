package mirror

import (
	"fmt"
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
	tied := func(pairs ...string) map[string]records.Attachment {
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
	at := func(networks map[string]fabric.Network, attachments map[string]records.Attachment, local []network.Network, lost map[string]bool) view {
		return view{networks: networks, attachments: attachments, local: local, lost: lost}
	}
	for name, test := range map[string]struct {
		view view
		want []string
	}{
		"nothing to do":                 {at(named("n1", "foo"), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), nil},
		"new here":                      {at(named("n1", ""), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"adopt local d1"}},
		"new elsewhere":                 {at(named("n1", "foo"), nil, nil, nil), []string{"create n1"}},
		"new elsewhere, still nameless": {at(named("n1", ""), nil, nil, nil), nil},
		"removed elsewhere":             {at(nil, tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"remove local d1"}},
		"removed here, put back":        {at(named("n1", "foo"), nil, []network.Network{local("d9", "bridge", "local")}, nil), []string{"create n1"}},
		"replaced by another":           {at(named("n2", "foo"), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil), []string{"remove local d1", "create n2"}},
		"just made":                     {at(named("n1", "foo"), map[string]records.Attachment{"d1": {Network: "n1", Pending: true}}, []network.Network{local("d1", "foo", "local")}, nil), []string{"settle local d1"}},
		"being created":                 {at(named("n1", "foo"), tied("d1", "n1"), nil, nil), nil},
		"lost by the engine":            {at(named("n1", "foo"), tied("d1", "n1"), nil, map[string]bool{"d1": true}), []string{"untie d1", "create n1"}},
		"a swarm's":                     {at(named("n1", ""), tied("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil), []string{"adopt local d1"}},
		"a swarm's on another host":     {at(map[string]fabric.Network{"n1": {ID: "n1", Name: "foo", Swarm: true}}, nil, nil, nil), nil},
		"a swarm's being removed":       {at(nil, tied("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil), nil},
		"another driver's":              {at(nil, nil, []network.Network{local("d1", "foo", "local")}, nil), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, step := range compare(test.view) {
				text := step.about()
				switch step.kind {
				case adopt:
					text = fmt.Sprint("adopt ", text)
				case settle:
					text = fmt.Sprint("settle ", text)
				case remove:
					text = fmt.Sprint("remove ", text)
				}
				got = append(got, text)
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
		"of the host that made it":           {cluster, maker, nil, []stepKind{retie}},
		"of the mirror":                      {cluster, mirrored, nil, []stepKind{retie}},
		"of the mirror, gone":                {nil, mirrored, nil, []stepKind{remove}},
		"of the host that made it, gone":     {nil, maker, nil, nil},
		"of another driver with its options": {nil, foreign, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := view{networks: test.networks, local: []network.Network{test.local}, stray: map[string]bool{}, driver: "causeway"}
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
