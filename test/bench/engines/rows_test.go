package engines

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/causeway-net/causeway/test/bench/report"
)

func TestRowsHaveNetworksOfTheirOwn(t *testing.T) {
	names, subnets := map[string]bool{}, []netip.Prefix{}
	for _, r := range rows() {
		if names[r.name] || names[r.network(false)] && r.create != nil {
			t.Errorf("there are two rows %s", r.name)
		}
		names[r.name], names[r.network(false)] = true, true
		for _, first := range []bool{false, true} {
			subnet := netip.MustParsePrefix(r.subnet(first))
			if slices.ContainsFunc(subnets, subnet.Overlaps) {
				t.Errorf("%s is another row's, too", subnet)
			}
			subnets = append(subnets, subnet)
			if own, other := netip.MustParsePrefix(r.ranged(first, 1)), netip.MustParsePrefix(r.ranged(first, 2)); own.Overlaps(other) || !subnet.Overlaps(own) || !subnet.Overlaps(other) {
				t.Errorf("%s has the ranges %s and %s", subnet, own, other)
			}
		}
	}
	if !IsOurs("vxlan") || !IsOurs("ovs") || IsOurs("overlay") || IsOurs("none") {
		t.Error("causeway's rows are not told from others")
	}
}

func TestEveryFigureIsMeasured(t *testing.T) {
	known, taken := map[string]bool{}, map[string]bool{}
	for _, s := range sections() {
		for _, f := range s.Figures {
			if known[f.ID] {
				t.Errorf("there are two figures %s", f.ID)
			}
			known[f.ID] = true
		}
	}
	for _, m := range measures(false) {
		if !slices.ContainsFunc(rows(), m.wants) {
			t.Errorf("no row has %v", m.figures)
		}
		for _, id := range m.figures {
			taken[id] = true
			if !known[id] {
				t.Errorf("figure %s is in no section", id)
			}
		}
	}
	for id := range known {
		if !taken[id] {
			t.Errorf("figure %s is never measured", id)
		}
	}
}

func TestRowsAreChosenByName(t *testing.T) {
	chosen, err := Config{Rows: []string{"vxlan", "host"}}.rows()
	if err != nil || len(chosen) != 2 || chosen[0].name != "host" {
		t.Errorf("got %+v, %v", chosen, err)
	}
	if _, err := (Config{Rows: []string{"hosts"}}).rows(); err == nil {
		t.Error("a row that is none is no error")
	}
}

func TestRowsThatCouldNotBeHadAreTold(t *testing.T) {
	stood := []row{{name: "a", kinds: []string{traffic}}, {name: "b", kinds: []string{traffic}, fails: "no"}, {name: "c", kinds: []string{starts}}}
	got := described(report.Section{ID: "traffic"}, stood)
	if len(got) != 2 || got[1].Skipped != "no" {
		t.Errorf("got %+v", got)
	}
}
