package ovs

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

func vxlanNet(id string, vni uint32) fabric.Network {
	return fabric.Network{ID: id, Name: id, Mode: fabric.ModeOVS, VNI: vni}
}

func TestContainersOfTwoHostsTalk(t *testing.T) {
	w := newWorld(t, 2, vxlanNet("foo", 0x800001))
	a, b := w.run(t, w.hosts[0], "foo", 1), w.run(t, w.hosts[1], "foo", 2)
	c := w.run(t, w.hosts[0], "foo", 3)
	w.apply(t)
	for _, from := range []*container{a, b, c} {
		for _, at := range []*container{a, b, c} {
			if !from.reaches(at.v4()) || !from.reaches(at.v6()) {
				t.Errorf("%s does not reach %s", from.ID, at.ID)
			}
		}
	}
	if !a.reaches(addresses(b.Endpoint)[2], "-I", "eth0") {
		t.Error("link-local addresses do not talk")
	}
	// The switch must say what we say, word for word, or nothing would ever be as it should.
	segment := fabric.Plan(w.state, "h1")[0]
	want := append(staticFlows(), flowsOf(segment)...)
	if diff := cmp.Diff(change{}, changeOf(w.hosts[0].flows(t), want), cmp.AllowUnexported(change{}, flow{})); diff != "" {
		t.Error(diff)
	}
}
