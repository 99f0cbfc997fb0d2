package wireguard

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"
)

// ended is what a host knows of another's ends.
type ended struct{ current, other netip.Addr }

// model is a host that rotates its key, and others that it talks with. They read of its
// keys late or never, and the host is killed at any time.
type model struct {
	now    time.Time
	ring   keyring // as --data-dir has it
	keys   byte
	addrs  map[wgtypes.Key]netip.Addr
	record ended      // what can be read of it
	source netip.Addr // where its tunnels begin
	told   *offering  // nil: it has not told of the step yet
	last   *leaving
	bytes  int64

	reads map[string]ended // by peer
	made  map[string]handshakes
	// cut are the peers that cannot read.
	cut map[string]bool
}

func newModel() *model {
	m := &model{
		now: time.Unix(1e9, 0), addrs: map[wgtypes.Key]netip.Addr{{}: {}},
		reads: map[string]ended{}, made: map[string]handshakes{}, cut: map[string]bool{},
	}
	m.ring = keyring{current: m.key(), made: m.now}
	m.record, m.source = m.ends(), m.ends().current
	return m
}

func (m *model) ends() ended { return ended{m.addrs[m.ring.current], m.addrs[m.ring.other]} }

func (m *model) key() wgtypes.Key {
	m.keys++
	key := wgtypes.Key{0, m.keys} // of the first byte three bits do not count (RFC 7748 §5)
	m.addrs[key] = addrOf(key)
	return key
}

// step takes one, as change does.
func (m *model) step(ring keyring) {
	m.ring, m.told, m.last = ring, nil, nil
}

// decide does what KeepKeys does once it has told of its keys.
func (m *model) decide() {
	switch {
	case !m.ring.rotates():
	case !m.ring.switched && m.told != nil:
		if _, use := m.told.observe(m.now, m.made, Timing{}.orDefault()); use {
			m.step(m.ring.takeUp(m.now))
			for peer := range m.made {
				m.made[peer] = handshakes{now: m.made[peer].next}
			}
		}
	case m.ring.switched && m.last != nil:
		if m.last.observe(m.now, m.bytes, Timing{}.orDefault()) {
			m.step(m.ring.retire())
		}
	}
}

// talk has all peers send to the host, where they know it to be.
func (m *model) talk() {
	for peer, knows := range m.reads {
		made := m.made[peer]
		if knows.current == m.ends().current {
			made.now = m.now
		} else {
			m.bytes++
		}
		if m.ring.rotates() && !m.ring.switched && knows.other == m.ends().other {
			made.next = m.now // it answers the greeting
		}
		m.made[peer] = made
	}
}

// check holds that what each of them sends arrives.
func (m *model) check(t *rapid.T) {
	have := []netip.Addr{m.ends().current, m.ends().other}
	for peer, knows := range m.reads {
		if !slices.Contains(have, knows.current) {
			t.Fatalf("%s sends to %s, and the host has %v", peer, knows.current, have)
		}
		if m.source != knows.current && m.source != knows.other {
			t.Fatalf("the host sends from %s, and %s takes what comes from %s and %s", m.source, peer, knows.current, knows.other)
		}
	}
}

func TestNoPeerIsLostInARotation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		for _, peer := range []string{"a", "b", "c"} {
			m.reads[peer] = m.record
		}
		peer := rapid.SampledFrom([]string{"a", "b", "c"})
		m.talk()
		t.Repeat(map[string]func(*rapid.T){
			"due": func(*rapid.T) {
				if !m.ring.rotates() {
					m.step(m.ring.offer(m.key()))
				}
			},
			"tell": func(*rapid.T) {
				m.record, m.source = m.ends(), m.ends().current
				m.told, m.last = &offering{since: m.now}, &leaving{}
			},
			"read": func(t *rapid.T) {
				if one := peer.Draw(t, "peer"); !m.cut[one] {
					m.reads[one] = m.record
				}
			},
			"cut off":   func(t *rapid.T) { m.cut[peer.Draw(t, "peer")] = true },
			"come back": func(t *rapid.T) { delete(m.cut, peer.Draw(t, "peer")) },
			"kill": func(*rapid.T) {
				m.told, m.last, m.source = nil, nil, m.ends().current
			},
			"time": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "ticks") {
					m.now = m.now.Add(10 * time.Second)
					m.talk()
					m.decide()
				}
			},
			"": m.check,
		})
	})
}

// TestRotationEnds holds that one does which all have read of, and that a host that is
// gone holds up none.
func TestRotationEnds(t *testing.T) {
	m := newModel()
	m.made["gone"] = handshakes{}
	first := m.ring.current
	m.reads["a"] = m.ends()
	m.step(m.ring.offer(m.key()))
	for range 100 {
		if m.told == nil {
			m.record, m.source = m.ends(), m.ends().current
			m.told, m.last = &offering{since: m.now}, &leaving{}
		}
		m.reads["a"] = m.record
		m.now = m.now.Add(10 * time.Second)
		m.talk()
		m.decide()
	}
	if m.ring.rotates() || m.ring.current == first || m.ring.past != m.addrs[first] {
		t.Errorf("after 1,000 s the host has %+v", m.ring)
	}
}

// TestPeerThatGoesIsNoTraffic holds that the bytes of a peer that is taken off the device do
// not keep it there.
func TestPeerThatGoesIsNoTraffic(t *testing.T) {
	begin, timing := time.Unix(1e9, 0), Timing{}.orDefault()
	last := leaving{}
	for _, step := range []struct {
		after time.Duration
		bytes int64
		gone  bool
	}{{0, 500, false}, {time.Minute, 700, false}, {3 * time.Minute, 200, false}, {4 * time.Minute, 200, true}, {5 * time.Minute, 201, false}} {
		if gone := last.observe(begin.Add(step.after), step.bytes, timing); gone != step.gone {
			t.Errorf("after %v with %d bytes the device may go: %t", step.after, step.bytes, gone)
		}
	}
}
