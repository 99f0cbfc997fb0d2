package vxlanport

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// anybody may send.
type anybody struct{}

func (anybody) Allow(uint32, []netip.Addr) error { return nil }
func (anybody) Forget(uint32) error              { return nil }

// alone gives Ports in a host's namespace that has no wire.
func alone(t *testing.T) *Ports {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	host, err := nl.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Close() })
	log := logrus.New()
	log.SetOutput(io.Discard)
	return New(Config{Host: host, Senders: anybody{}, Guard: func(string) error { return nil }, Log: logrus.NewEntry(log)})
}

func end(number int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd00::%d", number)) }

// drawSegment has each of a few endpoints on one of a few hosts, or nowhere.
func drawSegment(r *rapid.T) fabric.Segment {
	segment := fabric.Segment{Network: fabric.Network{ID: "n", Mode: fabric.ModeOVS, VNI: 0x800000, Encrypted: true}, MTU: 1370}
	segment.VTEP = end(rapid.IntRange(1, 2).Draw(r, "VTEP"))
	for number := range 6 {
		host := rapid.IntRange(0, 4).Draw(r, "host")
		if host == 0 {
			continue
		}
		endpoint := fabric.Endpoint{ID: fmt.Sprint("endpoint-", number), MAC: fabric.MAC{2, 5: byte(number)}}
		segment.Remote = append(segment.Remote, fabric.Peer{Endpoint: endpoint, VTEP: end(10 + host)})
		segment.Flood = append(segment.Flood, end(10+host))
	}
	slices.SortFunc(segment.Flood, netip.Addr.Compare)
	segment.Flood = slices.Compact(segment.Flood)
	return segment
}

// deltaOf has all endpoints of both as changed, as they may be.
func deltaOf(before, now fabric.Segment) fabric.Delta {
	delta := fabric.Delta{Segment: now, Put: now.Remote}
	delta.Remote = nil
	for _, peer := range before.Remote {
		delta.Gone = append(delta.Gone, peer.Endpoint)
	}
	return delta
}

// TestKernelHasTheLastSegment has segments follow one another, as a whole or as a Delta, to
// Ports that know the kernel or don't, and wants its entries to be those of the last: the
// device stays.
func TestKernelHasTheLastSegment(t *testing.T) {
	ports := alone(t)
	index := 0
	rapid.Check(t, func(r *rapid.T) {
		var before fabric.Segment
		for n := range rapid.IntRange(1, 5).Draw(r, "segments") {
			want := drawSegment(r)
			how := rapid.SampledFrom([]string{"whole", "delta", "distrust", "restart"}).Draw(r, "how")
			switch how {
			case "distrust":
				ports.Invalidate()
			case "restart":
				ports = New(ports.Config)
			}
			if fresh, _, err := ports.Ensure(want); err != nil || fresh != (index == 0) {
				r.Fatalf("fresh: %t, %v", fresh, err)
			}
			write := func() error { return ports.Write(want) }
			if how == "delta" && n > 0 {
				write = func() error { return ports.Update(deltaOf(before, want)) }
			}
			if err := write(); err != nil {
				r.Fatal(err)
			}
			d := ports.devices["n"]
			index, before = d.index, want
			have, err := ports.read(d)
			if err != nil {
				r.Fatal(err)
			}
			for what, entries := range map[string]entries{"kernel": have, "known": d.entries} {
				if diff := cmp.Diff(entriesOf(want.Remote, want.Flood), entries, cmp.AllowUnexported(slot{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
					r.Fatalf("(-want +%s):\n%s", what, diff)
				}
			}
			if found, err := ports.Inspect(want); err != nil || found != nil {
				r.Fatalf("found %q, %v", found, err)
			}
		}
	})
	if err := ports.Prune(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := ports.Host.Link(fabric.SealedPort(fabric.Network{ID: "n"})); err == nil {
		t.Error("the device is still there")
	}
}

// TestAnothersDevice is left alone.
func TestAnothersDevice(t *testing.T) {
	ports := alone(t)
	segment := rapid.Custom(drawSegment).Example(1)
	device := nl.NewVXLAN(fabric.SealedPort(segment.Network), 7, end(1), 4789)
	device.Alias = "another's"
	if _, err := ports.Host.CreateVXLAN(device); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ports.Ensure(segment); err == nil {
		t.Error("it was taken")
	} else {
		t.Log(err)
	}
	if err := ports.Prune(nil); err != nil {
		t.Error(err)
	}
	if _, err := ports.Host.Link(fabric.SealedPort(segment.Network)); err != nil {
		t.Error(err)
	}
}

// TestUnmarkedDeviceIsRecreated has a device without an alias, as one is left where causeway
// is killed while it creates it.
func TestUnmarkedDeviceIsRecreated(t *testing.T) {
	ports := alone(t)
	segment := rapid.Custom(drawSegment).Example(1)
	if err := ports.Host.LinkAdd(ports.deviceOf(segment)); err != nil {
		t.Fatal(err)
	}
	if fresh, _, err := ports.Ensure(segment); err != nil || !fresh {
		t.Fatalf("fresh: %t, %v", fresh, err)
	}
	link, err := ports.Host.Link(fabric.SealedPort(segment.Network))
	if err != nil || link.Attrs().Alias != mark+"n" {
		t.Errorf("got %+v, %v", link, err)
	}
}
