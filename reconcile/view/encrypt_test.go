package view

import (
	"io"
	"net/netip"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// TestKeysMoveEncryptedNetworks holds that a network which is encrypted follows this host's
// keys and those of others, and that one which is not does not.
func TestKeysMoveEncryptedNetworks(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	v, open := withCanary(t, health.New(logrus.NewEntry(logger)))
	const secret = "secret"
	v.NetworksChanged(kvstore.Change[fabric.Network]{Put: map[string]fabric.Network{secret: {ID: secret, Mode: fabric.ModeVXLAN, VNI: 78, Encrypted: true}}})
	v.AttachmentsChanged(kvstore.Change[records.Attachment]{Put: map[string]records.Attachment{secret: {Network: secret}}})
	put := map[string]fabric.Endpoint{}
	for id, host := range map[string]string{"here": "h1", "there": "h9"} {
		addr := netip.AddrFrom4([4]byte{192, 168, 2, byte(len(id))})
		put[id] = fabric.Endpoint{ID: id, Network: secret, Host: host, MAC: fabric.DeriveMAC(secret, addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}}
	}
	v.EndpointsChanged(secret, kvstore.Change[fabric.Endpoint]{Put: put})
	one, two, three := endOf(1), endOf(2), endOf(3)
	if got := v.Encrypt(fabric.Ends{WireGuard: one}); !slices.Equal(got, []string{secret}) {
		t.Errorf("this host's key concerns %v", got)
	}
	peer := hostOf(9)
	for _, test := range []struct {
		ends          fabric.Ends
		to            fabric.WireGuard
		flood, others int
	}{
		{fabric.Ends{WireGuard: two}, two, 1, 0},
		{fabric.Ends{WireGuard: two, Next: three}, two, 1, 1},
		{fabric.Ends{WireGuard: three, Last: two}, three, 1, 1},
		{fabric.Ends{WireGuard: three}, three, 1, 0},
	} {
		peer.Ends = test.ends
		if got := v.HostsChanged(kvstore.Change[fabric.Host]{Put: map[string]fabric.Host{"h9": peer}}); !slices.Contains(got, secret) {
			t.Errorf("%v concerns %v", test.ends, got)
		}
		segment, _ := v.Segment(secret)
		if segment.VTEP != one.Addr() || segment.Remote[0].VTEP != test.to.Addr() || len(segment.Flood) != test.flood || len(segment.Others) != test.others {
			t.Errorf("%v: planned %+v", test.ends, segment)
		}
	}
	if now, _ := v.Segment(canary); now.VTEP != open.VTEP || len(now.Others) != 0 {
		t.Errorf("the open network is %+v", now)
	}
}
