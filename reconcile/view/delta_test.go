package view

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// What Delta gives, one after the other, leads to what Plan gives, whatever changed in
// between; and of endpoints that share an address or a MAC a Delta has all or none.
func TestDeltasLeadToThePlan(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	byDelta := 0
	rapid.Check(t, func(t *rapid.T) {
		v := New(hostOf(1), health.New(logrus.NewEntry(logger)))
		subnets := []fabric.Subnet{{Prefix: netip.MustParsePrefix("192.168.1.0/24"), Pool: "pool"}}
		mode := rapid.SampledFrom([]fabric.Mode{fabric.ModeVXLAN, fabric.ModeRouted}).Draw(t, "mode")
		encrypted := rapid.Bool().Draw(t, "encrypted")
		v.NetworksChanged(kvstore.Change[fabric.Network]{Put: map[string]fabric.Network{"foo": {ID: "foo", Mode: mode, Subnets: subnets, Encrypted: encrypted}}})
		v.AttachmentsChanged(kvstore.Change[records.Attachment]{})
		v.HostsChanged(kvstore.Change[fabric.Host]{Put: map[string]fabric.Host{"h2": hostOf(2), "h3": hostOf(3)}})
		var have fabric.Segment
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				host := hostOf(rapid.IntRange(2, 5).Draw(t, "host"))
				host.VTEP = netip.AddrFrom4([4]byte{10, 99, 1, byte(rapid.IntRange(1, 4).Draw(t, "VTEP"))})
				host.WireGuard = endOf(rapid.IntRange(2, 7).Draw(t, "key"))
				v.HostsChanged(kvstore.Change[fabric.Host]{Put: map[string]fabric.Host{host.Name: host}})
			case 1:
				v.HostsChanged(kvstore.Change[fabric.Host]{Gone: []string{fmt.Sprint("h", rapid.IntRange(2, 5).Draw(t, "host"))}})
			case 2:
				foo := fabric.Network{ID: "foo", Mode: mode, Subnets: subnets, Encrypted: encrypted, MTU: rapid.SampledFrom([]int{0, 1400}).Draw(t, "MTU")}
				v.NetworksChanged(kvstore.Change[fabric.Network]{Put: map[string]fabric.Network{"foo": foo}})
			case 3:
				v.BlocksChanged("foo", "pool", drawBlocks(t))
			default:
				v.EndpointsChanged("foo", drawChange(t))
			}
			if rapid.Bool().Draw(t, "coalesced") {
				continue
			}
			want, wanted := v.Segment("foo")
			if !wanted {
				continue
			}
			delta, ok := v.Delta("foo")
			if ok {
				byDelta++
				checkClosed(t, v, delta)
				have = delta.From(have)
			} else {
				have = want
			}
			if diff := cmp.Diff(want, have, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("by a delta: %v (-plan +delta)\n%s", ok, diff)
			}
			v.Applied("foo", rapid.IntRange(0, 5).Draw(t, "applied") > 0)
		}
	})
	if byDelta == 0 {
		t.Error("no delta was ever planned")
	}
}

func hostOf(n int) fabric.Host {
	return fabric.Host{
		Name: fmt.Sprint("h", n), VTEP: netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}), MTU: 1500,
		Ends: fabric.Ends{WireGuard: endOf(n)},
	}
}

func endOf(n int) fabric.WireGuard {
	return fabric.WireGuard{Key: base64.StdEncoding.EncodeToString(append(make([]byte, 31), byte(n))), Port: 51822}
}

func drawChange(t *rapid.T) kvstore.Change[fabric.Endpoint] {
	c := kvstore.Change[fabric.Endpoint]{Put: map[string]fabric.Endpoint{}}
	for range rapid.IntRange(1, 3).Draw(t, "endpoints") {
		id := fmt.Sprint("e", rapid.IntRange(1, 8).Draw(t, "endpoint"))
		if rapid.Bool().Draw(t, "gone") {
			c.Gone = append(c.Gone, id)
			delete(c.Put, id)
			continue
		}
		addr := netip.AddrFrom4([4]byte{192, 168, 1, byte(rapid.IntRange(1, 6).Draw(t, "address"))})
		c.Put[id] = fabric.Endpoint{
			ID: id, Network: "foo", Host: fmt.Sprint("h", rapid.IntRange(1, 5).Draw(t, "on")),
			MAC: fabric.DeriveMAC("foo", addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)},
		}
	}
	return c
}

// drawBlocks takes and gives back blocks of four addresses.
func drawBlocks(t *rapid.T) kvstore.Change[records.Block] {
	c := kvstore.Change[records.Block]{Put: map[string]records.Block{}}
	for range rapid.IntRange(1, 2).Draw(t, "blocks") {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(4 * rapid.IntRange(0, 1).Draw(t, "block"))}), 30)
		name := strings.TrimPrefix(records.BlockKey("pool", prefix), records.PoolBlocks("pool"))
		if delete(c.Put, name); rapid.Bool().Draw(t, "given back") {
			c.Gone = append(c.Gone, name)
			continue
		}
		c.Put[name] = records.Block{Prefix: prefix, Host: fmt.Sprint("h", rapid.IntRange(1, 5).Draw(t, "of"))}
	}
	return c
}

func checkClosed(t *rapid.T, v *View, delta fabric.Delta) {
	concerned, ids := map[fabric.MAC]bool{}, map[string]bool{}
	for _, e := range delta.Gone {
		concerned[e.MAC], ids[e.ID] = true, true
	}
	for _, peer := range delta.Put {
		concerned[peer.MAC], ids[peer.ID] = true, true
	}
	for id, e := range v.state.Endpoints["foo"] {
		if concerned[e.MAC] && e.Host != "h1" && len(v.state.Hosts[e.Host].Name) > 0 && !ids[id] {
			t.Fatalf("%s shares the MAC of what changed and is left out", id)
		}
	}
}

// BenchmarkOneChangeOf100000 is what one endpoint that comes or goes costs a host with a
// network of 100,000, spread over 1,000 hosts, 100 of them its own.
func BenchmarkOneChangeOf100000(b *testing.B) {
	v := New(hostOf(1), health.New(logrus.NewEntry(logrus.New())))
	hosts := map[string]fabric.Host{}
	for n := 2; n <= 1000; n++ {
		host := hostOf(n)
		host.VTEP = netip.AddrFrom4([4]byte{10, 99, byte(n >> 8), byte(n)})
		hosts[host.Name] = host
	}
	v.NetworksChanged(kvstore.Change[fabric.Network]{Put: map[string]fabric.Network{"foo": {ID: "foo", Mode: fabric.ModeVXLAN}}})
	v.AttachmentsChanged(kvstore.Change[records.Attachment]{})
	v.HostsChanged(kvstore.Change[fabric.Host]{Put: hosts})
	endpoint := func(n int) fabric.Endpoint {
		addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		return fabric.Endpoint{
			ID: fmt.Sprintf("%064d", n), Network: "foo", Host: fmt.Sprint("h", 1+n%1000),
			MAC: fabric.DeriveMAC("foo", addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 8)},
		}
	}
	all := kvstore.Change[fabric.Endpoint]{Put: map[string]fabric.Endpoint{}}
	for n := range 100_000 {
		all.Put[endpoint(n).ID] = endpoint(n)
	}
	v.EndpointsChanged("foo", all)
	come := kvstore.Change[fabric.Endpoint]{Put: map[string]fabric.Endpoint{endpoint(100_001).ID: endpoint(100_001)}}
	gone := kvstore.Change[fabric.Endpoint]{Gone: []string{endpoint(100_001).ID}}
	plan := func(whole bool) {
		v.EndpointsChanged("foo", come)
		come, gone = gone, come
		if _, wanted := v.Local("foo"); !wanted {
			b.Fatal("the network is not wanted")
		}
		if _, ok := v.Delta("foo"); whole || !ok {
			v.Segment("foo")
		}
		v.Applied("foo", true)
	}
	plan(true)
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			plan(true)
		}
	})
	b.Run("delta", func(b *testing.B) {
		for b.Loop() {
			plan(false)
		}
	})
}
