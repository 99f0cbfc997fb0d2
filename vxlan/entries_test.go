package vxlan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// alone gives a plane in a host's namespace that has no wire.
func alone(t testing.TB) *Plane {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	dir := filepath.Join(t.TempDir(), "netns")
	plane, err := New(Config{Dir: dir, HostNS: ns, Senders: openFilter(t, ns, netip.Addr{}), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Prune(t.Context(), nil); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
		tidy(t, dir)
	})
	return plane
}

// tidy takes away all that is bound in dir.
func tidy(t testing.TB, dir string) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		if err := nl.Unbind(name); err != nil {
			t.Error(err)
		}
	}
	_ = unix.Unmount(dir, unix.MNT_DETACH)
}

func endpointOf(number int) fabric.Endpoint {
	addr := netip.AddrFrom4([4]byte{10, 1, byte(number >> 8), byte(number)})
	six := netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(number >> 8), 15: byte(number)})
	return fabric.Endpoint{
		ID: fmt.Sprint("endpoint-", number), MAC: fabric.DeriveMAC("n", addr),
		Addrs: []netip.Prefix{netip.PrefixFrom(addr, 16), netip.PrefixFrom(six, 64)},
	}
}

// segmentOf has remote endpoints 1 to count, spread over ten hosts.
func segmentOf(count int) fabric.Segment {
	segment := fabric.Segment{
		Network: fabric.Network{ID: "n", Mode: fabric.ModeVXLAN, VNI: 0x800000},
		VTEP:    netip.MustParseAddr("10.99.0.1"), MTU: 1450,
	}
	for number := 1; number <= count; number++ {
		vtep := netip.AddrFrom4([4]byte{10, 99, 1, byte(number % 10)})
		segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: endpointOf(number), VTEP: vtep})
		if number <= 10 {
			segment.Flood = append(segment.Flood, vtep)
		}
	}
	return segment
}

// TestKernelHasTheLastSegment applies one segment after another, from one plane
// or a new one, and wants the kernel to have the entries of the last: nothing
// depends on how it came there.
func TestKernelHasTheLastSegment(t *testing.T) {
	plane := alone(t)
	rapid.Check(t, func(r *rapid.T) {
		for range rapid.IntRange(1, 5).Draw(r, "segments") {
			want := drawSegment(r)
			switch rapid.SampledFrom([]string{"trust", "distrust", "restart"}).Draw(r, "before") {
			case "distrust":
				plane.Invalidate()
			case "restart":
				for _, s := range plane.segments {
					s.Close()
				}
				clear(plane.segments)
			}
			repaired, err := plane.Apply(t.Context(), want)
			if err != nil || repaired != 0 {
				r.Fatalf("%d repaired, %v", repaired, err)
			}
			found, err := plane.segments["n"].read()
			if err != nil {
				r.Fatal(err)
			}
			if diff := gocmp.Diff(plane.segments["n"].entriesOf(want), found, gocmp.AllowUnexported(slot{}, target{})); diff != "" {
				r.Fatalf("(-want +kernel):\n%s", diff)
			}
		}
	})
}

// TestDeltasLeadToTheSegment has endpoints come, go and change, and wants the kernel to
// have the entries of the whole segment after each Delta.
func TestDeltasLeadToTheSegment(t *testing.T) {
	plane := alone(t)
	rapid.Check(t, func(r *rapid.T) {
		before := drawDistinct(r)
		if _, err := plane.Apply(t.Context(), before); err != nil {
			r.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(r, "deltas") {
			want := drawDistinct(r)
			delta := deltaOf(before, want)
			if rapid.Bool().Draw(r, "distrust") {
				plane.Invalidate() // costs an Update nothing
			}
			if err := plane.Update(t.Context(), delta); err != nil {
				r.Fatal(err)
			}
			for _, endpoint := range want.Local {
				if _, err := plane.Plug(t.Context(), delta.Segment, endpoint); err != nil {
					r.Fatal(err)
				}
			}
			s := plane.segments["n"]
			found, err := s.read()
			if err != nil {
				r.Fatal(err)
			}
			if diff := gocmp.Diff(s.entriesOf(want), found, gocmp.AllowUnexported(slot{}, target{})); diff != "" {
				r.Fatalf("(-want +kernel):\n%s", diff)
			}
			if diff := gocmp.Diff(found, s.written, gocmp.AllowUnexported(slot{}, target{})); diff != "" {
				r.Fatalf("(-kernel +known):\n%s", diff)
			}
			before = want
		}
	})
}

// drawDistinct has each endpoint here, on one other host, or nowhere.
func drawDistinct(r *rapid.T) fabric.Segment {
	segment := segmentOf(0)
	for number := range 6 {
		switch host := rapid.IntRange(0, 4).Draw(r, "host"); host {
		case 0:
		case 1:
			segment.Local = append(segment.Local, endpointOf(number))
		default:
			vtep := netip.AddrFrom4([4]byte{10, 99, 1, byte(host)})
			segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: endpointOf(number), VTEP: vtep})
			segment.Flood = append(segment.Flood, vtep)
		}
	}
	slices.SortFunc(segment.Flood, netip.Addr.Compare)
	segment.Flood = slices.Compact(segment.Flood)
	return segment
}

// deltaOf has all endpoints of both as changed, as they may be.
func deltaOf(before, now fabric.Segment) fabric.Delta {
	delta := fabric.Delta{Segment: now, Put: now.Remote, Gone: slices.Clone(before.Local)}
	delta.Remote = nil
	for _, peer := range before.Remote {
		delta.Gone = append(delta.Gone, peer.Endpoint)
	}
	return delta
}

// drawSegment has few endpoints and hosts, so that they often meet: on two
// hosts at once, with one MAC for two, here and elsewhere.
func drawSegment(r *rapid.T) fabric.Segment {
	segment := segmentOf(0)
	segment.MTU = rapid.SampledFrom([]int{1400, 1450, 8950}).Draw(r, "MTU")
	segment.VTEP = rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2")}).Draw(r, "VTEP")
	number := rapid.IntRange(1, 6)
	for range rapid.IntRange(0, 8).Draw(r, "remote") {
		endpoint := endpointOf(number.Draw(r, "number"))
		endpoint.MAC = endpointOf(number.Draw(r, "MAC of")).MAC
		vtep := netip.AddrFrom4([4]byte{10, 99, 1, byte(number.Draw(r, "host"))})
		segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: endpoint, VTEP: vtep})
		segment.Flood = append(segment.Flood, vtep)
	}
	for range rapid.IntRange(0, 2).Draw(r, "local") {
		segment.Local = append(segment.Local, endpointOf(number.Draw(r, "number")))
	}
	return segment
}

func TestLocalEndpointsWin(t *testing.T) {
	want := segmentOf(2)
	want.Local = []fabric.Endpoint{endpointOf(2)}
	got := new(segment).entriesOf(want)
	for _, table := range []table{ports, tunnels} {
		if _, ok := got[slot{table: table, mac: endpointOf(2).MAC}]; ok {
			t.Errorf("table %d sends a local MAC away", table)
		}
		if _, ok := got[slot{table: table, mac: endpointOf(1).MAC}]; !ok {
			t.Errorf("table %d lacks a remote MAC", table)
		}
	}
}

// TestOneBadEntrySpoilsNoOther has two VTEPs of the family that this host's is not of.
func TestOneBadEntrySpoilsNoOther(t *testing.T) {
	plane, want := alone(t), segmentOf(30)
	for _, number := range []int{12, 17} {
		want.Remote[number].VTEP = netip.MustParseAddr("fd99::7")
	}
	want.Local = []fabric.Endpoint{endpointOf(31)}
	var first string
	for range 5 {
		_, err := plane.Apply(t.Context(), want)
		if err == nil || !strings.Contains(err.Error(), "(and 1 more entries)") || !errors.Is(err, fabric.ErrPartial) {
			t.Fatalf("got %v, want the first of two errors", err)
		}
		if first = cmp.Or(first, err.Error()); first != err.Error() {
			t.Errorf("got %q, before %q", err, first)
		}
	}
	if _, err := plane.Plug(t.Context(), want, want.Local[0]); err != nil {
		t.Errorf("a container can't be plugged: %v", err)
	}
	s := plane.segments["n"]
	found, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	if !s.trusted {
		t.Error("the kernel is read back for entries that it refuses each time")
	}
	all := s.entriesOf(want)
	for slot, target := range all {
		if bad := slot.table == tunnels && target.vtep.addr().Is6(); !bad && found[slot] != target {
			t.Errorf("%s was not written", describe(slot, target))
		}
	}
	if len(found) != len(all)-2 {
		t.Errorf("%d entries, want %d", len(found), len(all)-2)
	}
}

// TestPruneThatFailsLeaksNothing has ten namespaces of an earlier run, in a folder
// that is read-only.
func TestPruneThatFailsLeaksNothing(t *testing.T) {
	plane := alone(t)
	for number := range 10 {
		want := segmentOf(0)
		want.Network.ID, want.Network.VNI = fmt.Sprint("n", number), uint32(number+1)
		if _, err := plane.Apply(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		s := plane.segments[want.Network.ID]
		plane.forget(want.Network.ID)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	remount := func(flags uintptr) {
		if err := unix.Mount("", plane.Dir, "", unix.MS_REMOUNT|unix.MS_BIND|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	remount(unix.MS_RDONLY)
	defer remount(0)
	before := open()
	if err := plane.Prune(t.Context(), nil); err == nil {
		t.Error("pruning did not fail")
	}
	if after := open(); after > before+2 { // the test's own tools
		t.Errorf("%d files are open, before %d", after, before)
	}
}

// A bridge takes 1,023 ports, vxlan0 among them. The container that is one too many is
// told so, and takes nothing from the others.
func TestBridgeThatIsFull(t *testing.T) {
	plane, want := alone(t), segmentOf(1)
	want.Local = []fabric.Endpoint{endpointOf(2), endpointOf(3), endpointOf(4)}
	if _, err := plane.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	s := plane.segments["n"]
	for number := range 510 {
		port := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: fmt.Sprint("peer", number)}
		port.Name = fmt.Sprint("port", number)
		if err := s.LinkAdd(port); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{port.Name, port.PeerName} {
			link, err := s.Link(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.LinkSetMasterByIndex(link, int(s.bridge)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, endpoint := range want.Local[:2] {
		if _, err := plane.Plug(t.Context(), want, endpoint); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := plane.Plug(t.Context(), want, want.Local[2]); err == nil || !strings.Contains(err.Error(), "has 1023 ports, and the kernel allows no more") {
		t.Errorf("the last container: %v", err)
	}
	if repaired, err := plane.Apply(t.Context(), want); err != nil || repaired != 0 {
		t.Errorf("the network of the others: %d repaired, %v", repaired, err)
	}
}

func TestMTUIsNeverLowered(t *testing.T) {
	plane := alone(t)
	segment := segmentOf(1)
	for _, step := range []struct{ want, have int }{{1450, 1450}, {1400, 1450}, {8950, 8950}} {
		segment.MTU = step.want
		if _, err := plane.Apply(t.Context(), segment); err != nil {
			t.Fatal(err)
		}
		link, err := plane.segments["n"].Link(tunnelName)
		if err != nil {
			t.Fatal(err)
		}
		if got := link.Attrs().MTU; got != step.have {
			t.Errorf("with MTU %d wanted, %s has %d, want %d", step.want, tunnelName, got, step.have)
		}
	}
}

func apply(b *testing.B, plane *Plane, segment fabric.Segment) {
	b.Helper()
	if _, err := plane.Apply(b.Context(), segment); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkApplyCold10000(b *testing.B) {
	plane, segment := alone(b), segmentOf(10000)
	for b.Loop() {
		apply(b, plane, segment)
		b.StopTimer()
		if err := plane.Prune(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkUpdateOneOf10000(b *testing.B) {
	plane, segment := alone(b), segmentOf(10000)
	last := segment.Remote[len(segment.Remote)-1]
	apply(b, plane, segment)
	put := fabric.Delta{Segment: segment, Put: []fabric.Peer{last}}
	gone := fabric.Delta{Segment: segment, Gone: []fabric.Endpoint{last.Endpoint}}
	put.Remote, gone.Remote = nil, nil
	for b.Loop() {
		if err := plane.Update(b.Context(), gone); err != nil {
			b.Fatal(err)
		}
		put, gone = gone, put
	}
}

func BenchmarkReadBack10000(b *testing.B) {
	plane, segment := alone(b), segmentOf(10000)
	apply(b, plane, segment)
	for b.Loop() {
		plane.Invalidate()
		apply(b, plane, segment)
	}
}

// BenchmarkThousandNetworks is a host with 1,000 networks of ten peers: to create them,
// and to read all of them back.
func BenchmarkThousandNetworks(b *testing.B) {
	plane := alone(b)
	all := func(b *testing.B) {
		for number := range 1000 {
			segment := segmentOf(10)
			segment.Network.ID, segment.Network.VNI = fmt.Sprint("n", number), uint32(number+1)
			apply(b, plane, segment)
		}
	}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			all(b)
			b.StopTimer()
			if err := plane.Prune(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	all(b)
	b.Run("read back", func(b *testing.B) {
		for b.Loop() {
			plane.Invalidate()
			all(b)
		}
	})
}

func BenchmarkPlug(b *testing.B) {
	plane, segment := alone(b), segmentOf(10)
	segment.Local = []fabric.Endpoint{endpointOf(2000)}
	for b.Loop() {
		apply(b, plane, segment)
		if _, err := plane.Plug(b.Context(), segment, segment.Local[0]); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		apply(b, plane, segmentOf(10))
		b.StartTimer()
	}
}
