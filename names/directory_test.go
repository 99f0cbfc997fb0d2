package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
)

func endpoint(id, host string, addrs []string, names ...string) fabric.Endpoint {
	e := fabric.Endpoint{ID: id, Host: host, Names: names}
	for _, text := range addrs {
		e.Addrs = append(e.Addrs, netip.MustParsePrefix(text))
	}
	return e
}

// The index is what a walk over all endpoints would find, whatever came and went.
func TestDirectoryIsItsEndpoints(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDirectory()
		network := fabric.Network{ID: "n", Name: "Foo"}
		model := map[string]fabric.Endpoint{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			put, gone := map[string]fabric.Endpoint{}, []string{}
			id := rapid.SampledFrom([]string{"e1", "e2", "e3", "e4"}).Draw(t, "id")
			if rapid.Bool().Draw(t, "put") {
				names := rapid.SliceOfN(rapid.SampledFrom([]string{"db", "DB", "web", "a.b", "db.foo"}), 0, 3).Draw(t, "names")
				number := rapid.IntRange(1, 4).Draw(t, "addr")
				put[id] = endpoint(id, "h1", []string{fmt.Sprintf("10.0.0.%d/24", number)}, names...)
				model[id] = put[id]
			} else {
				gone = append(gone, id)
				delete(model, id)
			}
			d.update(network, put, gone)
		}
		for _, name := range []string{"db", "web", "a.b", "db.foo", "web.foo", "foo"} {
			var want []string
			for _, exact := range []bool{true, false} {
				short, qualified := strings.CutSuffix(name, ".foo")
				for id, e := range model {
					match := func(n string) bool {
						return exact && strings.EqualFold(n, name) || !exact && qualified && strings.EqualFold(n, short)
					}
					if slices.ContainsFunc(e.Names, match) {
						want = append(want, id)
					}
				}
				if len(want) > 0 {
					break // a name that reads like "name.network" comes first
				}
			}
			slices.Sort(want)
			var got []string
			for _, match := range d.find([]string{"n", "unknown"}, name) {
				got = append(got, match.Endpoint)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Fatalf("%s is %v, want %v", name, got, want)
			}
		}
	})
}

func TestNamesOfAreDistinctAndLowerCase(t *testing.T) {
	got := namesOf(fabric.Endpoint{Name: "Web", Names: []string{"web", "api.", "", "0123456789ab"}})
	if want := []string{"web", "api", "0123456789ab"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestNoNamesWhereTheyAreSwitchedOff(t *testing.T) {
	d := newDirectory()
	put := map[string]fabric.Endpoint{"e1": endpoint("e1", "h1", []string{"10.0.0.2/24"}, "db")}
	for _, network := range []fabric.Network{{ID: "n", NoNames: true}, {ID: "n", Swarm: true}} {
		d.update(network, put, nil)
		if found := d.find([]string{"n"}, "db"); len(found) > 0 {
			t.Errorf("%+v: found %v", network, found)
		}
	}
}
