package nl

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fresh gives a Handle in a namespace of its own.
func fresh(t *testing.T) *Handle {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	handle, err := Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close() })
	return handle
}

func TestNamespaceIsNamedAndForgotten(t *testing.T) {
	handle := fresh(t)
	path := filepath.Join(t.TempDir(), "netns", "one")
	t.Cleanup(func() { _ = unix.Unmount(filepath.Dir(path), unix.MNT_DETACH) })

	if _, err := OpenNamespace(path); !errors.Is(err, ErrNotFound) {
		t.Errorf("before Bind: %v, want ErrNotFound", err)
	}
	if err := Bind(handle.NS(), path); err != nil {
		t.Fatal(err)
	}
	if !handle.IsBound(path) {
		t.Error("the name is not that of the namespace")
	}
	ns, err := OpenNamespace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if !ns.Equal(handle.NS()) {
		t.Error("the name leads to another namespace")
	}
	if err := Bind(handle.NS(), path); err != nil { // a second mount over the first
		t.Fatal(err)
	}
	for range 2 {
		if err := Unbind(path); err != nil {
			t.Fatal(err)
		}
	}
	if handle.IsBound(path) {
		t.Error("the name is still there")
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenNamespace(path); !errors.Is(err, ErrNotFound) {
		t.Errorf("an empty file: %v, want ErrNotFound", err)
	}
}

func TestNewNamespaceLeavesTheCallerWhereItIs(t *testing.T) {
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if fresh(t).NS().Equal(before) {
		t.Error("the namespace is not a new one")
	}
	after, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if !before.Equal(after) {
		t.Error("the caller was moved")
	}
}

func TestDoRunsInTheNamespaceAndReturns(t *testing.T) {
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	for name, ns := range map[string]netns.NsHandle{"another": fresh(t).NS(), "the process's own": netns.None()} {
		failed := errors.New("failed")
		err := Do(ns, func() error {
			here, err := netns.Get()
			if err != nil {
				return err
			}
			defer here.Close()
			if want := cmp.Or(max(ns, 0), home); !here.Equal(want) {
				t.Errorf("%s: ran in %s, want %s", name, here, want)
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	closed := netns.NsHandle(1 << 20)
	if err := Do(closed, func() error { t.Error("ran outside"); return nil }); err == nil {
		t.Error("a namespace that is not open was entered")
	}
}

// TestPairsOfOnePlane has three pairs of a plane and one of another's.
func TestPairsOfOnePlane(t *testing.T) {
	for name, apart := range map[string]bool{"two namespaces": true, "one namespace": false} {
		t.Run(name, func(t *testing.T) {
			host := fresh(t)
			home := host
			if apart {
				home = fresh(t)
			}
			pairs := Pairs{Host: host, Home: home, Mark: "causeway:"}
			var endpoints []fabric.Endpoint
			for i, alias := range []string{"causeway:a", "causeway:a", "causeway:b", "another"} {
				endpoint := fabric.Endpoint{ID: fmt.Sprint("e", i)}
				pair := Pair{Endpoint: endpoint.ID, MAC: fabric.MAC{2, 5: byte(i)}, MTU: 1400, Alias: alias}
				if _, err := pair.Ensure(host, home); err != nil {
					t.Fatal(err)
				}
				endpoints = append(endpoints, endpoint)
			}
			moved, err := host.Link(ContainerEnd("e1"))
			if err != nil {
				t.Fatal(err)
			}
			if err := host.LinkSetNsFd(moved, int(fresh(t).NS())); err != nil {
				t.Fatal(err)
			}
			alive, err := pairs.Alive(t.Context(), append(endpoints, fabric.Endpoint{ID: "never plugged"}))
			if err != nil || alive["e0"] || !alive["e1"] || alive["never plugged"] {
				t.Errorf("alive: %v, %v; want e1 alone", alive, err)
			}
			if err := pairs.Prune(endpoints[1:2]); err != nil {
				t.Fatal(err)
			}
			for i, want := range []error{ErrNotFound, nil, ErrNotFound, nil} {
				if _, err := home.Link(HostEnd(endpoints[i].ID)); !errors.Is(err, want) {
					t.Errorf("e%d after pruning: %v, want %v", i, err, want)
				}
			}
			ends, err := pairs.List()
			if _, there := ends[HostEnd("e1")]; err != nil || !there || len(ends) != 1 {
				t.Errorf("listed %v, %v; want e1's end alone", ends, err)
			}
		})
	}
}

func TestPairIsCreatedOnceAndRepaired(t *testing.T) {
	host, home := fresh(t), fresh(t)
	pair := Pair{Endpoint: "e1", MAC: fabric.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400, Alias: "causeway:test"}
	first, err := pair.Ensure(host, home)
	if err != nil {
		t.Fatal(err)
	}
	other, err := host.Link(ContainerEnd("e1"))
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Attrs(); got.HardwareAddr.String() != pair.MAC.String() || got.MTU != pair.MTU {
		t.Errorf("the container's end has MAC %s and MTU %d", got.HardwareAddr, got.MTU)
	}
	again, err := pair.Ensure(host, home)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Attrs(); got.Index != first.Attrs().Index || got.Alias != pair.Alias || got.HardwareAddr.String() != "fe:00:00:00:00:01" {
		t.Errorf("a second Ensure gave %+v", got)
	}
	if err := host.LinkSetNsFd(other, int(fresh(t).NS())); err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Ensure(host, home); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Link(ContainerEnd("e1")); err != nil {
		t.Errorf("the pair was not recreated for Docker to take: %v", err)
	}
	for range 2 {
		if err := home.Remove(HostEnd("e1")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := host.Link(ContainerEnd("e1")); !errors.Is(err, ErrNotFound) {
		t.Errorf("the container's end: %v, want ErrNotFound", err)
	}
}

func TestPairWithinOneNamespace(t *testing.T) {
	host := fresh(t)
	pair := Pair{Endpoint: "e1", MAC: fabric.MAC{0xfe, 0, 0, 0, 0, 1}, MTU: 1500, Alias: "causeway:test"}
	first, err := pair.Ensure(host, host)
	if err != nil {
		t.Fatal(err)
	}
	again, err := pair.Ensure(host, host)
	if err != nil {
		t.Fatal(err)
	}
	if first.Attrs().Index != again.Attrs().Index {
		t.Error("a second Ensure made another pair")
	}
}

func TestPairsEndsHaveTheirOwnMTU(t *testing.T) {
	host := fresh(t)
	pair := Pair{Endpoint: "e1", MAC: fabric.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400, HostMTU: 1500, Alias: "causeway:test"}
	first, err := pair.Ensure(host, host)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{HostEnd("e1"): 1500, ContainerEnd("e1"): 1400} {
		if link, err := host.Link(name); err != nil || link.Attrs().MTU != want {
			t.Errorf("%s: %v, %+v; want MTU %d", name, err, link, want)
		}
	}
	again, err := pair.Ensure(host, host)
	if err != nil || again.Attrs().Index != first.Attrs().Index {
		t.Errorf("a second Ensure made another pair: %v", err)
	}
}

func TestAddressesConvertBothWays(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "fd00::1"} {
		addr := netip.MustParseAddr(text)
		if got := Addr(IP(addr)); got != addr {
			t.Errorf("%s became %s", addr, got)
		}
		if got := Addr(IP(netip.AddrFrom16(addr.As16()))); got != addr {
			t.Errorf("%s in 16 bytes became %s", addr, got)
		}
	}
	if IP(netip.Addr{}) != nil || Addr(nil).IsValid() {
		t.Error("no address became one")
	}
}

func TestEventsTellWhatChanges(t *testing.T) {
	handle := fresh(t)
	events, err := handle.Subscribe(unix.RTNLGRP_LINK)
	if err != nil {
		t.Fatal(err)
	}
	if queued, err := events.Queued(); err != nil || len(queued) != 0 {
		t.Errorf("before any change: %v, %v", queued, err)
	}
	if _, err := events.Read(time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("before any change: %v, want ErrDeadlineExceeded", err)
	}
	link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "new"}}
	if err := handle.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	read, err := events.Read(time.Time{})
	if err != nil || len(read) == 0 || read[0].Header.Type != unix.RTM_NEWLINK {
		t.Errorf("after a change: %v, %v", read, err)
	}
	for n := range 10_000 { // more than the socket has room for
		if err := handle.LinkSetMTU(link, 1000+n%2); err != nil {
			t.Fatal(err)
		}
	}
	for err = nil; err == nil; {
		var queued []syscall.NetlinkMessage
		if queued, err = events.Queued(); len(queued) == 0 && err == nil {
			t.Fatal("nothing was lost")
		}
	}
	if !errors.Is(err, ErrOverrun) {
		t.Errorf("after many changes: %v, want ErrOverrun", err)
	}
	ended := make(chan error, 1)
	if _, err := events.Queued(); err != nil {
		t.Fatal(err)
	}
	go func() {
		var err error
		for err == nil {
			_, err = events.Read(time.Time{})
		}
		ended <- err
	}()
	if err := events.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// TestContainersEndIsIsolated has something set up the end that waits for Docker.
func TestContainersEndIsIsolated(t *testing.T) {
	host, home := fresh(t), fresh(t)
	pair := Pair{Endpoint: "e1", MAC: fabric.MAC{2, 0, 0, 0, 0, 1}, MTU: 1400, Alias: "causeway:test"}
	if _, err := pair.Ensure(host, home); err != nil {
		t.Fatal(err)
	}
	end, err := host.Link(ContainerEnd("e1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := host.LinkSetUp(end); err != nil {
		t.Fatal(err)
	}
	if addresses, err := host.AddrList(end, netlink.FAMILY_ALL); err != nil || len(addresses) != 0 {
		t.Errorf("in the host's namespace: %v, %v; want no addresses", addresses, err)
	}
	container := fresh(t)
	if err := host.LinkSetNsFd(end, int(container.NS())); err != nil {
		t.Fatal(err)
	}
	err = Do(container.NS(), func() error {
		for _, setting := range []string{"ipv6/conf/" + ContainerEnd("e1") + "/disable_ipv6", "ipv4/conf/" + ContainerEnd("e1") + "/arp_ignore"} {
			if value, err := os.ReadFile("/proc/sys/net/" + setting); err != nil || string(value) != "0\n" {
				t.Errorf("in the container: %s is %q, %v", setting, value, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
