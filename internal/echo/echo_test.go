package echo

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/lantest"
)

func TestAsk(t *testing.T) {
	lan := lantest.NewLAN(t)
	host := func(r Request) bool {
		t.Helper()
		r.Every = 200 * time.Millisecond
		answered, err := Ask(t.Context(), lan.Host.NS, r)
		if err != nil {
			t.Fatal(err)
		}
		return answered
	}
	for _, addr := range []string{"192.0.2.200", "2001:db8:1::200"} {
		to := netip.MustParseAddr(addr)
		own := netip.MustParseAddr("192.0.2.10")
		if to.Is6() {
			own = netip.MustParseAddr("2001:db8:1::10")
		}
		for what, r := range map[string]Request{
			"small": {To: to, Times: 3}, "whole": {To: to, Size: 1500, Times: 3}, "with a source and an identifier": {To: to, From: own, ID: 7, Times: 3},
		} {
			if !host(r) {
				t.Errorf("%s: %s does not answer", what, to)
			}
		}
		if absent := to.Next(); host(Request{To: absent, Times: 1}) {
			t.Errorf("%s answers, whom nobody has", absent)
		}
	}
	answer, err := Measure(t.Context(), lan.Host.NS, Request{To: netip.MustParseAddr("192.0.2.200"), Times: 3, Every: 200 * time.Millisecond})
	if err != nil || answer.Asked < 1 || answer.After <= 0 || answer.After > 200*time.Millisecond {
		t.Errorf("%+v, %v", answer, err)
	}
	answer, err = Measure(t.Context(), lan.Host.NS, Request{To: netip.MustParseAddr("192.0.2.201"), Times: 2, Every: 10 * time.Millisecond})
	if err != nil || answer != (Answer{Asked: 2}) {
		t.Errorf("whom nobody has: %+v, %v", answer, err)
	}
	// The path carries less than the NIC: the kernel's knowledge of it does not make the
	// large request smaller.
	lan.Plain.Run("nft", "add table inet narrow; add chain inet narrow in { type filter hook input priority 0; }; add rule inet narrow in meta length > 1400 drop")
	for _, addr := range []string{"192.0.2.200", "2001:db8:1::200"} {
		to := netip.MustParseAddr(addr)
		if !host(Request{To: to, Times: 3}) || host(Request{To: to, Size: 1500, Times: 1}) {
			t.Errorf("%s: the narrow path is not told from a wide one", to)
		}
	}
	if host(Request{To: netip.MustParseAddr("203.0.113.9"), Times: 1}) {
		t.Error("an address without a route answers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if answered, err := Ask(ctx, lan.Host.NS, Request{To: netip.MustParseAddr("192.0.2.201"), Every: time.Second}); answered || err == nil {
		t.Errorf("until the context ends: %v, %v", answered, err)
	}
}
