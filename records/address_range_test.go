package records

import (
	"math"
	"net/netip"
	"slices"
	"testing"
)

func TestAddrs(t *testing.T) {
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
		first, last := span(netip.MustParsePrefix(test.subnet), within)
		for addr := range Addrs(first, last, test.down) {
			got = append(got, addr.String())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s within %q: %v, want %v", test.subnet, test.within, got, test.want)
		}
	}
}

func TestSize(t *testing.T) {
	for _, test := range []struct {
		subnet, within string
		want           int
	}{
		{"10.0.0.0/24", "", 254},
		{"10.0.0.0/31", "", 2},
		{"10.0.0.0/24", "10.0.0.255/32", 0},
		{"0.0.0.0/1", "", 1<<31 - 2},
		{"fd00::/127", "", 2},
		{"fd00::/120", "fd00::/124", 15},
		{"fd00::/66", "", 1<<62 - 1},
		{"fd00::/64", "", math.MaxInt},
		{"fd00::/48", "fd00::1:0:0:0:0/64", math.MaxInt},
		{"fd00::/16", "", math.MaxInt},
	} {
		var within netip.Prefix
		if test.within != "" {
			within = netip.MustParsePrefix(test.within)
		}
		if got := Size(span(netip.MustParsePrefix(test.subnet), within)); got != test.want {
			t.Errorf("%s within %q: %d, want %d", test.subnet, test.within, got, test.want)
		}
	}
}
