package mirror

import (
	"fmt"
	"slices"
	"testing"

	"github.com/moby/moby/api/types/network"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

func TestCompare(t *testing.T) {
	local := func(id, name, scope string) network.Network {
		return network.Network{ID: id, Name: name, Scope: scope}
	}
	tied := func(pairs ...string) map[string]kvstore.Attachment {
		attachments := map[string]kvstore.Attachment{}
		for i := 0; i < len(pairs); i += 2 {
			attachments[pairs[i]] = kvstore.Attachment{Network: pairs[i+1]}
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
	for name, test := range map[string]struct {
		view view
		want []string
	}{
		"nothing to do":                 {view{named("n1", "foo"), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil}, nil},
		"new here":                      {view{named("n1", ""), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil}, []string{"adopt local d1"}},
		"new elsewhere":                 {view{named("n1", "foo"), nil, nil, nil}, []string{"create n1"}},
		"new elsewhere, still nameless": {view{named("n1", ""), nil, nil, nil}, nil},
		"removed elsewhere":             {view{nil, tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil}, []string{"remove local d1"}},
		"removed here, put back":        {view{named("n1", "foo"), nil, []network.Network{local("d9", "bridge", "local")}, nil}, []string{"create n1"}},
		"replaced by another":           {view{named("n2", "foo"), tied("d1", "n1"), []network.Network{local("d1", "foo", "local")}, nil}, []string{"remove local d1", "create n2"}},
		"just made":                     {view{named("n1", "foo"), map[string]kvstore.Attachment{"d1": {Network: "n1", Pending: true}}, []network.Network{local("d1", "foo", "local")}, nil}, []string{"settle local d1"}},
		"being created":                 {view{named("n1", "foo"), tied("d1", "n1"), nil, nil}, nil},
		"lost by the engine":            {view{named("n1", "foo"), tied("d1", "n1"), nil, map[string]bool{"d1": true}}, []string{"untie d1", "create n1"}},
		"a swarm's":                     {view{named("n1", ""), tied("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil}, []string{"adopt local d1"}},
		"a swarm's on another host":     {view{map[string]fabric.Network{"n1": {ID: "n1", Name: "foo", Swarm: true}}, nil, nil, nil}, nil},
		"a swarm's being removed":       {view{nil, tied("d1", "n1"), []network.Network{local("d1", "foo", "swarm")}, nil}, nil},
		"another driver's":              {view{nil, nil, []network.Network{local("d1", "foo", "local")}, nil}, nil},
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
