package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/vxlan"
)

// through is what the check of the tunnels looks at on a host of the rig.
func (s site) through() *Inputs {
	in := inputs(cluster())
	in.Host.Name, in.tried = s.host.Name, &tried{}
	in.Planes, in.Tunnels, in.HostNS, in.VXLANPort = s, s.host.Plane.(*vxlan.Plane), s.host.NS, 4789
	return in
}

// firewall drops on a host what is tunnelled to it and matches.
func (s site) firewall(t *testing.T, host int, match string) (open func()) {
	t.Helper()
	machine := lantest.At(t, "host", s.rig.Hosts[host].NS)
	machine.Run("nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in udp dport 4789 "+match+" drop")
	return func() { machine.Run("nft", "delete table inet wall") }
}

func TestTunnelsOfTwoHosts(t *testing.T) {
	here, _, _ := twoHosts(t)
	there := here
	there.host = here.rig.Hosts[1]
	var tried *tried
	tunnel := func() Tunnel {
		t.Helper()
		if all := tried.all(); len(all) == 1 {
			return all[0]
		}
		t.Fatalf("the tunnels are %+v", tried.all())
		return Tunnel{}
	}
	look := func(s site) []Finding {
		t.Helper()
		began := time.Now()
		in := s.through()
		tried = in.tried
		found, err := tunnels(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %s", took)
		}
		return found
	}
	wantNone(t, look(here), nil)
	if got := tunnel(); got.From != "host1" || got.To != "host2" || got.Answered == 0 || got.Asked < got.Answered || got.RTT <= 0 || got.RTT > 250*time.Millisecond {
		t.Errorf("the tunnel is %+v", got)
	}
	wantNone(t, look(there), nil)

	open := here.firewall(t, 1, "")
	f := wantOne(t, look(here), nil, "Nothing comes back through the tunnel from host host2.")
	if got := tunnel(); got.Answered != 0 || got.Asked < 3 || got.RTT != 0 {
		t.Errorf("the tunnel is %+v", got)
	}
	if want := []string{"tunnel/host1/host2"}; !slices.Equal(f.About, want) {
		t.Errorf("it is about %q", f.About)
	}
	f = wantOne(t, look(there), nil, "This host's own firewall drops what comes through the tunnel from host host1.")
	if !strings.Contains(f.Evidence, "come to eth0") {
		t.Error(f.Evidence)
	}
	also := here.firewall(t, 0, "")
	wantOne(t, look(here), nil, "Nothing comes back")
	wantOne(t, look(there), nil, "Nothing comes back")
	also()
	open()
	wantNone(t, look(here), nil)

	open = here.firewall(t, 1, "meta length > 1400")
	f = wantOne(t, look(here), nil, "Large packets are lost on the way to host host2")
	if !strings.Contains(f.Evidence, "those of 1464 bytes") {
		t.Error(f.Evidence)
	}
	wantNone(t, look(there), nil)
	open()
}

// Where two networks lead to one host it is asked on one, and a network without local
// addresses to ask from is passed over.
func TestEachHostIsAskedOnce(t *testing.T) {
	here, _, _ := twoHosts(t)
	second := here.rig.Network(2)
	here.rig.Start(here.rig.Hosts[0], second, 2)
	here.rig.Start(here.rig.Hosts[1], second, 3)
	here.networks = append(here.networks, second)
	segments, err := (&Inputs{Planes: here}).segments(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trips := plan(segments)
	if len(trips) != 1 || len(trips[0].routes) != 1 || trips[0].routes[0].vtep != netip.MustParseAddr("10.99.0.2") {
		t.Errorf("trips are %+v", trips)
	}
}
