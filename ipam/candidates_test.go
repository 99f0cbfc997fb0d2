package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/kvstore"
)

func TestCandidates(t *testing.T) {
	for _, test := range []struct {
		subnet, within string
		down           bool
		want           []string
	}{
		{"10.0.0.0/30", "", false, []string{"10.0.0.1", "10.0.0.2"}},
		{"10.0.0.0/30", "", true, []string{"10.0.0.2", "10.0.0.1"}},
		{"10.0.0.0/31", "", false, []string{"10.0.0.0", "10.0.0.1"}},
		{"10.0.0.7/32", "", false, []string{"10.0.0.7"}},
		{"10.0.0.0/24", "10.0.0.252/30", false, []string{"10.0.0.252", "10.0.0.253", "10.0.0.254"}},
		{"255.255.255.252/30", "", false, []string{"255.255.255.253", "255.255.255.254"}},
		{"fd00::/126", "", false, []string{"fd00::1", "fd00::2", "fd00::3"}},
		{"fd00::/127", "", true, []string{"fd00::1", "fd00::"}},
	} {
		var within netip.Prefix
		if test.within != "" {
			within = netip.MustParsePrefix(test.within)
		}
		var got []string
		for addr := range candidates(netip.MustParsePrefix(test.subnet), within, test.down) {
			got = append(got, addr.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s within %q: %v, want %v", test.subnet, test.within, got, test.want)
		}
	}
}

// TestModel has hosts ask and release at random: no address has two holders,
// all are assignable, and a freed one comes back only when no fresh one is left.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bits := rapid.IntRange(26, 30).Draw(rt, "bits")
		subnet := netip.PrefixFrom(netip.MustParseAddr("10.1.0.0"), bits)
		first, last := bounds(subnet)
		size := int(last.As4()[3]) - int(first.As4()[3]) + 1
		store := kvstore.NewMemory()
		hosts := []*IPAM{newIPAM(t, store, "h0"), newIPAM(t, store, "h1"), newIPAM(t, store, "h2")}
		var pool string
		for _, host := range hosts {
			pool, _ = host.pool(t, ipam.RequestPoolRequest{Pool: subnet.String()})
		}
		held, ever := map[netip.Addr]int{}, map[netip.Addr]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"ask": func(rt *rapid.T) {
				n := rapid.IntRange(0, 2).Draw(rt, "host")
				text, err := hosts[n].ask(t.Context(), pool, "")
				if full := len(held) == size; (err != nil) != full {
					rt.Fatalf("%d of %d are held, and the answer is %q, %v", len(held), size, text, err)
				} else if full {
					return
				}
				addr := netip.MustParsePrefix(text).Addr()
				if _, twice := held[addr]; twice || !assignable(subnet, addr) {
					rt.Fatalf("%s was given out", addr)
				}
				if ever[addr] && len(ever) < size {
					rt.Fatalf("%s was given out again while fresh ones are left", addr)
				}
				held[addr], ever[addr] = n, true
			},
			"release": func(rt *rapid.T) {
				if len(held) == 0 {
					return
				}
				addr := rapid.SampledFrom(slices.SortedFunc(maps.Keys(held), netip.Addr.Compare)).Draw(rt, "address")
				by := rapid.IntRange(0, 2).Draw(rt, "host")
				if err := hosts[by].releaseAddress(t.Context(), pool, addr.String()); err != nil {
					rt.Fatal(err)
				}
				if by == held[addr] { // another's release is ignored
					delete(held, addr)
				}
			},
		})
	})
}

func FuzzRequestPool(f *testing.F) {
	f.Add("10.1.0.0/24", "10.1.0.0/25", "space", "b", false)
	f.Add("fd00::/64", "", "", "", true)
	f.Add("0.0.0.0/24", "", "", "", false)
	f.Fuzz(func(t *testing.T, cidr, within, key, value string, v6 bool) {
		request := &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: cidr, SubPool: within, V6: v6}
		if key != "" {
			request.Options = map[string]string{key: value}
		}
		answer, err := newIPAM(t, kvstore.NewMemory(), "h1").handleRequestPool(t.Context(), request)
		if err != nil {
			return
		}
		id, err := parsePoolID(answer.PoolID)
		if err != nil || id.String() != answer.PoolID {
			t.Errorf("pool ID %q reads back as %+v, %v", answer.PoolID, id, err)
		}
	})
}
