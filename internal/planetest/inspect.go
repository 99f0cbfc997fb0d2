package planetest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// inspect wants nothing to be named while all is as planned, and what was cut until it is
// repaired, with nothing changed by the look.
func inspect(t *testing.T, config Config) {
	rig, network, _, _ := Two(t, config)
	host := rig.Hosts[0]
	look := func() []string {
		t.Helper()
		before := rig.text()
		found, err := host.Plane.Inspect(t.Context(), rig.Segment(host, network))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, rig.text()); diff != "" {
			t.Errorf("the look changed the kernel (-before +after):\n%s", diff)
		}
		return found
	}
	if found := look(); len(found) > 0 {
		t.Errorf("all is as planned, and there is named: %q", found)
	}
	for what, cut := range map[string]func(){
		"entries": func() { config.Cut(t, host, rig.Segment(host, network)) },
		"filters": func() { unfilter(t, config, host, rig.Segment(host, network)) },
	} {
		before := rig.text()
		if cut(); before == rig.text() {
			continue // the plane has no such thing
		}
		found := look()
		if len(found) == 0 {
			t.Errorf("nothing is named after %s were cut", what)
		}
		t.Logf("%q", found)
		host.Plane.Invalidate()
		rig.Apply(host)
		if found := look(); len(found) > 0 {
			t.Errorf("all was repaired, and there is named: %q", found)
		}
	}
}

// unfilter takes the filters of the containers' ports away.
func unfilter(t *testing.T, config Config, host *Host, segment fabric.Segment) {
	t.Helper()
	if config.Space == nil {
		return
	}
	space, err := config.Space(t, host, segment)
	must(t, err)
	defer space.NS.Close()
	for _, command := range space.harms(t) {
		if words := strings.Fields(string(command)); strings.HasSuffix(string(command), " clsact") {
			_, err := Output(t, space.NS, words[0], words[1:]...)
			must(t, err)
		}
	}
}
