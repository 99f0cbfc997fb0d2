package doctor

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
	"github.com/causeway-net/causeway/internal/vswitch"
	"github.com/causeway-net/causeway/vxlan"
)

// anyone lets every VTEP send.
type anyone struct{}

func (anyone) Allow(uint32, []netip.Addr) error { return nil }
func (anyone) Forget(uint32) error              { return nil }

// site is the plane of one host of a rig, with the networks that it has.
type site struct {
	rig      *planetest.Rig
	host     *planetest.Host
	networks []fabric.Network
}

func (s site) Networks(context.Context) (ids []string, err error) {
	for _, network := range s.networks {
		ids = append(ids, network.ID)
	}
	return ids, nil
}

func (s site) Inspect(ctx context.Context, id string) (fabric.Segment, []string, error) {
	for _, network := range s.networks {
		if network.ID == id {
			segment := s.rig.Segment(s.host, network)
			found, err := s.host.Plane.Inspect(ctx, segment)
			return segment, found, err
		}
	}
	return fabric.Segment{}, nil, nil
}

func (s site) Segment(_ context.Context, id string) (fabric.Segment, bool, error) {
	for _, network := range s.networks {
		if network.ID == id {
			return s.rig.Segment(s.host, network), true, nil
		}
	}
	return fabric.Segment{}, false, nil
}

func twoHosts(t *testing.T) (s site, a, b *planetest.Container) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	rig, network, a, b := planetest.Two(t, planetest.Config{
		Mode: fabric.ModeVXLAN, VTEP: netip.MustParseAddr("10.99.0.0"),
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			dir := host.Dir + "/netns"
			t.Cleanup(func() { tidy(t, dir) })
			plane, err := vxlan.New(vxlan.Config{Dir: dir, HostNS: host.NS, Senders: anyone{}, Log: logrus.NewEntry(log)})
			if err != nil {
				t.Fatal(err)
			}
			return plane
		},
		Network: func(number int) fabric.Network { return fabric.Network{VNI: uint32(7000 + number)} },
	})
	return site{rig, rig.Hosts[0], []fabric.Network{network}}, a, b
}

// harm runs commands in the namespace of the host's network.
func (s site) harm(t *testing.T, script string) {
	t.Helper()
	ns, err := nl.OpenNamespace(s.host.Dir + "/netns/causeway-" + fabric.ShortHash(s.networks[0].ID))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lantest.At(t, "network", ns).Script(script)
}

func TestKernelThatIsNotAsPlanned(t *testing.T) {
	s, _, b := twoHosts(t)
	in := &Inputs{Planes: s, Timing: Timing{Again: 10 * time.Millisecond}}
	found, err := planes(t.Context(), in)
	wantNone(t, found, err)
	s.harm(t, "bridge fdb del "+b.Endpoint.MAC.String()+" dev vxlan0 self\nip neigh del "+b.Endpoint.Addrs[0].Addr().String()+" dev br0")
	found, err = planes(t.Context(), in)
	f := wantOne(t, found, err, "is not as planned")
	for _, words := range []string{"missing: FDB " + b.Endpoint.MAC.String() + " to 10.99.0.2", "missing: neighbour " + b.Endpoint.Addrs[0].Addr().String()} {
		if !strings.Contains(f.Evidence, words) {
			t.Errorf("%q lacks %q", f.Evidence, words)
		}
	}
}

// repairing has the plane repair between the two looks.
type repairing struct {
	site
	looked bool
}

func (r *repairing) Inspect(ctx context.Context, id string) (fabric.Segment, []string, error) {
	if r.looked {
		r.host.Plane.Invalidate()
		r.rig.Apply(r.host)
	}
	r.looked = true
	return r.site.Inspect(ctx, id)
}

func TestWhatIsRepairedMeanwhileIsNoFinding(t *testing.T) {
	s, _, b := twoHosts(t)
	s.harm(t, "bridge fdb del "+b.Endpoint.MAC.String()+" dev vxlan0 self")
	found, err := planes(t.Context(), &Inputs{Planes: &repairing{site: s}, Timing: Timing{Again: time.Millisecond}})
	wantNone(t, found, err)
}

func TestVTEPIsLost(t *testing.T) {
	lan := lantest.NewLAN(t)
	machine := lantest.NewMachine(t, "host")
	lan.Connect(machine, "eth0", "10.99.0.1/24")
	in := &Inputs{HostNS: machine.NS, Host: fabric.Host{VTEP: netip.MustParseAddr("10.99.0.1"), MTU: 1500}}
	found, err := vtep(t.Context(), in)
	wantNone(t, found, err)
	machine.IP("link set eth0 mtu 1400")
	found, err = vtep(t.Context(), in)
	if f := wantOne(t, found, err, "The MTU of eth0, which has the VTEP, was lowered"); !strings.HasPrefix(f.Evidence, "it is 1400, and was 1500") {
		t.Error(f.Evidence)
	}
	machine.IP("addr del 10.99.0.1/24 dev eth0\naddr add 10.99.0.9/24 dev eth0")
	found, err = vtep(t.Context(), in)
	if f := wantOne(t, found, err, "lost its VTEP 10.99.0.1"); !strings.Contains(f.Evidence, "10.99.0.9") {
		t.Error(f.Evidence)
	}
}

// tidy takes the names of the networks' namespaces away.
func tidy(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if err := nl.Unbind(name); err != nil {
			t.Error(err)
		}
	}
	_ = unix.Unmount(dir, unix.MNT_DETACH) // where nothing was named it is no mount
}

func TestNICOfAnUnderlayIsDown(t *testing.T) {
	lan, machine := lantest.NewLAN(t), lantest.NewMachine(t, "host")
	lan.Connect(machine, "eth0", "10.99.0.1/24")
	network := fabric.Network{ID: "n1", Name: "lan", Mode: fabric.ModeUnderlay, Parent: "eth0"}
	in := &Inputs{HostNS: machine.NS, Planes: planned{network}}
	found, err := nics(t.Context(), in)
	wantNone(t, found, err)
	in.RunDir = t.TempDir()
	state := filepath.Join(in.RunDir, "NetworkManager/devices", strconv.Itoa(machine.Link("eth0").Attrs().Index))
	if err := errors.Join(os.MkdirAll(filepath.Dir(state), 0o700), os.WriteFile(state, []byte("[device]\nmanaged=true\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	found, err = nics(t.Context(), in)
	wantOne(t, found, err, "NetworkManager has taken the NIC eth0 out of its bridge")
	machine.IP("link add cw-eth0 type bridge\nlink set eth0 master cw-eth0")
	found, err = nics(t.Context(), in)
	wantNone(t, found, err) // it manages the NIC, and leaves it where it is
	machine.IP("link set eth0 down")
	found, err = nics(t.Context(), in)
	if f := wantOne(t, found, err, "The NIC eth0 is down"); f.Evidence != "network lan has it as its parent (ip link show eth0)" {
		t.Error(f.Evidence)
	}
	machine.IP("link del eth0")
	found, err = nics(t.Context(), in)
	wantOne(t, found, err, "The NIC eth0 is gone")
}

// planned has networks that nothing of is looked at.
type planned []fabric.Network

func (p planned) Networks(context.Context) (ids []string, err error) {
	for _, network := range p {
		ids = append(ids, network.ID)
	}
	return ids, nil
}

func (p planned) Segment(_ context.Context, id string) (fabric.Segment, bool, error) {
	for _, network := range p {
		if network.ID == id {
			return fabric.Segment{Network: network}, true, nil
		}
	}
	return fabric.Segment{}, false, nil
}

func (p planned) Inspect(ctx context.Context, id string) (fabric.Segment, []string, error) {
	segment, _, err := p.Segment(ctx, id)
	return segment, nil, errors.Join(err, vswitch.ErrUnresponsive)
}

// A switch that hangs is a finding of each of its networks.
func TestSwitchThatDoesNotAnswer(t *testing.T) {
	in := &Inputs{Planes: planned{{ID: "n1", Name: "switched", Mode: fabric.ModeOVS}}}
	found, err := planes(t.Context(), in)
	if f := wantOne(t, found, err, "What this host has of network switched cannot be read."); f.Evidence != vswitch.ErrUnresponsive.Error() || !strings.Contains(f.Remedy, "ovs-vswitchd") {
		t.Errorf("%+v", f)
	}
}
