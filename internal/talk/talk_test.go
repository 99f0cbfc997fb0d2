package talk

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// pairs is a host with the ends of containers' pairs.
type pairs struct {
	host  *lantest.Machine
	at    *nl.Handle
	there []string
}

func newPairs(t *testing.T) *pairs {
	t.Helper()
	p := &pairs{host: lantest.NewMachine(t, "host")}
	var err error
	if p.at, err = nl.Open(p.host.NS); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.at.Close() })
	return p
}

// add gives the host a pair with a container, which has the addresses .2 and ::2 of its network.
func (p *pairs) add(t *testing.T, name string, n int) *lantest.Machine {
	t.Helper()
	container := lantest.NewMachine(t, name)
	p.host.IP(fmt.Sprintf(`link add name %[1]s type veth peer name eth0 netns %[2]s
link set dev %[1]s up
addr add 10.0.%[3]d.1/24 dev %[1]s
addr add fd00:%[3]d::1/64 dev %[1]s nodad`, name, container.Path(), n))
	container.IP(fmt.Sprintf("link set eth0 up\naddr add 10.0.%[1]d.2/24 dev eth0\naddr add fd00:%[1]d::2/64 dev eth0 nodad", n))
	p.there = append(p.there, name)
	return container
}

func (p *pairs) each(_ context.Context, do func(*nl.Handle, Pair)) error {
	for _, name := range p.there {
		end, err := p.at.Link(name)
		if err != nil {
			return err
		}
		do(p.at, Pair{Network: "n", Endpoint: name, End: end})
	}
	return nil
}

func (p *pairs) meter(t *testing.T) *Meter {
	t.Helper()
	m := &Meter{Each: p.each}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func rates(t *testing.T, m *Meter) map[string]Conversation {
	t.Helper()
	all, err := m.Rates(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]Conversation)
	for _, c := range all {
		found[c.Endpoint+" "+c.Peer.String()] = c
	}
	return found
}

// TestCounts holds that each frame is counted for its container and the address at the other
// end, both ways, and that a container which ended is forgotten.
func TestCounts(t *testing.T) {
	p := newPairs(t)
	a, b := p.add(t, "a", 1), p.add(t, "b", 2)
	m := p.meter(t)
	if found := rates(t, m); len(found) > 0 && found["a 10.0.1.1"].Sent.Packets > 0 {
		t.Errorf("before anybody talks there is %v", found)
	}
	a.Run("ping", "-q", "-c", "5", "-i", "0.01", "-s", "100", "10.0.1.1")
	b.Run("ping", "-q", "-c", "3", "-i", "0.01", "-s", "200", "fd00:2::1")
	counted, err := m.programs.read()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		endpoint, peer string
		packets, bytes uint64
	}{
		{"a", "10.0.1.1", 5, 5 * (14 + 20 + 8 + 100)},
		{"b", "fd00:2::1", 3, 3 * (14 + 40 + 8 + 200)},
	} {
		k := key{uint32(m.classes[owner{"n", want.endpoint}]), netip.MustParseAddr(want.peer).As16()}
		got := counted[k]
		if want.peer == "fd00:2::1" { // neighbour discovery is from there, too
			if got.SentPackets < want.packets || got.SentBytes < want.bytes || got.ReceivedPackets < want.packets {
				t.Errorf("of %s with %s is counted %+v", want.endpoint, want.peer, got)
			}
		} else if got != (counters{want.bytes, want.packets, want.bytes, want.packets}) {
			t.Errorf("of %s with %s is counted %+v", want.endpoint, want.peer, got)
		}
	}
	lantest.Eventually(t, "the rates are told", func() error {
		a.Run("ping", "-q", "-c", "2", "-i", "0.01", "10.0.1.1")
		if c := rates(t, m)["a 10.0.1.1"]; c.Sent.Packets == 0 || c.Received.Bytes == 0 {
			return fmt.Errorf("a says %+v", c)
		}
		return nil
	})
	p.there = p.there[1:]
	lantest.Eventually(t, "what ended is forgotten", func() error {
		if found := rates(t, m); found["a 10.0.1.1"] != (Conversation{}) {
			return fmt.Errorf("there is %v", found)
		}
		return nil
	})
}

// TestCountsWhileAsked holds that a process that ended leaves nothing that counts, and that
// the next one's programs take the place of its.
func TestCountsWhileAsked(t *testing.T) {
	p := newPairs(t)
	a := p.add(t, "a", 1)
	first := p.meter(t)
	rates(t, first)
	counts := func(m *Meter) uint64 {
		before, err := m.programs.read()
		if err != nil {
			t.Fatal(err)
		}
		a.Run("ping", "-q", "-c", "4", "-i", "0.01", "10.0.1.1")
		after, err := m.programs.read()
		if err != nil {
			t.Fatal(err)
		}
		k := key{uint32(m.classes[owner{"n", "a"}]), netip.MustParseAddr("10.0.1.1").As16()}
		return after[k].SentPackets - before[k].SentPackets
	}
	if n := counts(first); n != 4 {
		t.Errorf("%d of 4 packets are counted", n)
	}
	if err := first.programs.countFor(0); err != nil {
		t.Fatal(err)
	}
	if n := counts(first); n != 0 {
		t.Errorf("when nobody asks, %d packets are counted", n)
	}
	second := p.meter(t)
	rates(t, second)
	if n := counts(second); n != 4 {
		t.Errorf("the next process counts %d of 4 packets", n)
	}
	if filters := p.host.Run("tc", "filter", "show", "dev", "a", "ingress"); strings.Count(filters, "direct-action") != 1 {
		t.Errorf("there is not one program:\n%s", filters)
	}
}

func TestRatesAreOfWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.Uint64Range(0, 1<<40).Draw(t, "before")
		more := rapid.Uint64Range(0, 1<<40).Draw(t, "more")
		passed := time.Duration(rapid.Int64Range(int64(shortest), int64(kept)).Draw(t, "passed"))
		want := math.Round(float64(more) / passed.Seconds())
		if got := rate(before, before+more, passed); got != want {
			t.Fatalf("of %d more in %v it says %v", more, passed, got)
		}
		if more < before { // it began again
			if got := rate(before, more, passed); got != want {
				t.Fatalf("of %d from the beginning in %v it says %v", more, passed, got)
			}
		}
	})
}

// TestBusiest holds that of many conversations the busiest are told, the first one first.
func TestBusiest(t *testing.T) {
	m := &Meter{owners: map[uint16]owner{1: {"n", "a"}}}
	now := make(map[key]counters)
	for n := range 2 * Most {
		peer := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}).As16()
		now[key{1, peer}] = counters{SentBytes: uint64(n + 1)}
		now[key{2, peer}] = counters{SentBytes: 1 << 30} // of nobody
	}
	found := m.compare(now, time.Second)
	if len(found) != Most || found[0].Sent.Bytes != 2*Most || found[Most-1].Sent.Bytes != Most+1 {
		t.Errorf("there are %d, from %+v to %+v", len(found), found[0], found[len(found)-1])
	}
}
