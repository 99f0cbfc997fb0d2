package planetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
	config.Cut(t, host, rig.Segment(host, network))
	found := look()
	if len(found) == 0 {
		t.Error("nothing is named after something was cut")
	}
	t.Logf("%q", found)
	host.Plane.Invalidate()
	rig.Apply(host)
	if found := look(); len(found) > 0 {
		t.Errorf("all was repaired, and there is named: %q", found)
	}
}
