package view

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Whatever record is written, in any table: it is used, or left out and told; and the
// network of others keeps its containers and its peers.
func FuzzRecords(f *testing.F) {
	addr := netip.MustParsePrefix("10.0.0.2/24")
	for key, value := range map[string]any{
		records.HostKey("h2"):            hostOf(2),
		records.HostKey("h3"):            fabric.Host{Name: "h3", VTEP: hostOf(1).VTEP, MTU: 1},
		records.NetworkKey("foo"):        fabric.Network{ID: "foo", Mode: "future", VNI: 1 << 31, MTU: -1, Subnets: []fabric.Subnet{{Prefix: addr}}},
		records.AttachmentKey("h1", "d"): records.Attachment{Network: "foo"},
		records.EndpointKey("foo", "e"):  fabric.Endpoint{ID: "e", Network: "foo", Host: "h1", Addrs: []netip.Prefix{addr}},
		records.EndpointKey("bar", "e"):  fabric.Endpoint{ID: "e", Network: "bar", Host: "h2", Addrs: []netip.Prefix{addr, addr}},
	} {
		text, err := json.Marshal(value)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(key, text, key, []byte(`{"id":"foo","mode":"vxlan","unknown":[{}]}`))
	}
	f.Add(records.HostKey("h1"), []byte(`null`), records.HostKey(""), []byte(`{"name":"","vtep":"fe80::1%eth0"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte, key2 string, value2 []byte) {
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		board := health.New(logrus.NewEntry(logger))
		v, want := withCanary(t, board)
		for _, record := range []kvstore.Item{{Key: key, Value: value}, {Key: key2, Value: value2}} {
			if !strings.Contains(record.Key, canary) && record.Key != records.HostKey("h9") {
				take(t, v, board, record)
			}
			for id := range v.state.Networks {
				v.Segment(id)
				if _, ok := v.Delta(id); ok {
					v.Applied(id, true)
				}
			}
			v.Report(true)
			v.Holdings()
			got, ok := v.Segment(canary)
			got.Flood, got.Others, got.MTU = want.Flood, want.Others, want.MTU // other hosts and their devices have a part in these
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); !ok || diff != "" {
				t.Errorf("%s %q changes another network (-want +got)\n%s", record.Key, record.Value, diff)
			}
		}
	})
}

const canary = "canary"

// withCanary is a view of a network with one container here and one on h9.
func withCanary(t *testing.T, board *health.Board) (*View, fabric.Segment) {
	t.Helper()
	v := New(hostOf(1), board)
	v.NetworksChanged(kvstore.Change[fabric.Network]{Put: map[string]fabric.Network{canary: {ID: canary, Mode: fabric.ModeVXLAN, VNI: 77}}})
	v.AttachmentsChanged(kvstore.Change[records.Attachment]{Put: map[string]records.Attachment{canary: {Network: canary}}})
	v.HostsChanged(kvstore.Change[fabric.Host]{Put: map[string]fabric.Host{"h9": hostOf(9)}})
	put := map[string]fabric.Endpoint{}
	for id, host := range map[string]string{"here": "h1", "there": "h9"} {
		addr := netip.AddrFrom4([4]byte{192, 168, 1, byte(len(id))})
		put[id] = fabric.Endpoint{
			ID: id, Network: canary, Host: host, MAC: fabric.DeriveMAC(canary, addr), Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)},
		}
	}
	v.EndpointsChanged(canary, kvstore.Change[fabric.Endpoint]{Put: put})
	want, ok := v.Segment(canary)
	if !ok || len(want.Local) != 1 || len(want.Remote) != 1 {
		t.Fatalf("the canary's segment is %+v", want)
	}
	v.Applied(canary, true)
	return v, want
}

// take has the view take in a record, as a watch does; one that cannot be decoded is on
// the board afterwards.
func take(t *testing.T, v *View, board *health.Board, record kvstore.Item) {
	t.Helper()
	table, rest, _ := strings.Cut(record.Key, "/")
	network, id, _ := strings.Cut(rest, "/")
	bad := false
	switch table + "/" {
	case records.HostsPrefix:
		c := change[fabric.Host](rest, record)
		v.HostsChanged(c)
		bad = len(c.Bad) > 0
	case records.NetworksPrefix:
		c := change[fabric.Network](rest, record)
		v.NetworksChanged(c)
		bad = len(c.Bad) > 0
	case records.AttachmentsPrefix:
		c := change[records.Attachment](id, record)
		v.AttachmentsChanged(c)
		bad = len(c.Bad) > 0
	case records.EndpointsPrefix:
		c := change[fabric.Endpoint](id, record)
		v.EndpointsChanged(network, c)
		bad = len(c.Bad) > 0
	}
	v.Report(true)
	if bad && len(board.Faults()) == 0 {
		t.Errorf("%s %q cannot be read, and nobody is told", record.Key, record.Value)
	}
}

func change[T any](name string, item kvstore.Item) kvstore.Change[T] {
	c := kvstore.Change[T]{Put: map[string]T{}, Bad: map[string]error{}}
	value, err := kvstore.Decode[T](item)
	if err != nil {
		c.Bad[name] = err
	} else {
		c.Put[name] = value
	}
	return c
}
