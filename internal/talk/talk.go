// Package talk tells which addresses the containers of a host talk to, and how much.
//
// A frame's path: on both sides of the host's end of a container's pair a program (talk.c,
// BPF on tc's clsact) adds it to what the container sent to that address, or got from it, and
// lets it go on. The programs are put there when somebody asks for the first time, and count
// only while somebody asks again; else a frame costs one look at a clock.
//
// A question's path: [Meter.Rates] goes through the pairs that there are, reads what was
// counted, and makes rates of the difference to the last time.
package talk

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/pause"
)

const (
	// kept is how long counting goes on after a question.
	kept = 2 * time.Minute
	// shortest is the time that a rate is of.
	shortest = time.Second
	// mostPairs are counted, so that there is a class that none has.
	mostPairs = 30_000
	// Most is how many conversations are told of: the busiest.
	Most = 200
)

// Conversation is what a container of this host and an address send each other.
type Conversation struct {
	// Network and Endpoint are the IDs of the container's end.
	Network  string     `json:"network"`
	Endpoint string     `json:"endpoint"`
	Peer     netip.Addr `json:"peer"`
	// Sent is what the container sent, Received what it got.
	Sent     Rate `json:"sent"`
	Received Rate `json:"received"`
}

// Rate is in units a second. Bytes are those of frames.
type Rate struct {
	Bytes   float64 `json:"bytes"`
	Packets float64 `json:"packets"`
}

// Pair is a container's.
type Pair struct {
	Network, Endpoint string
	// End is the host's.
	End netlink.Link
}

// Meter measures. Any goroutine may use it.
type Meter struct {
	// Each calls do with each pair of this host, and the namespace that its end is in.
	Each func(ctx context.Context, do func(at *nl.Handle, pair Pair)) error

	mu       sync.Mutex
	programs *programs
	classes  map[owner]uint16
	owners   map[uint16]owner
	class    uint16 // that was given out last
	before   map[key]counters
	at       time.Time // of before; zero: nothing was read
	rates    []Conversation
}

type owner struct{ network, endpoint string }

// Close lets go of the programs. They stay on their pairs, and count no more.
func (m *Meter) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.programs == nil {
		return nil
	}
	err := m.programs.countFor(0)
	m.programs.Close()
	m.programs = nil
	return err
}

// Rates gives the busiest conversations since somebody asked last. Who asks first waits for
// a second.
func (m *Meter) Rates(ctx context.Context) ([]Conversation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rates, err := m.measure(ctx)
	if err != nil {
		return nil, fmt.Errorf("count who talks to whom: %w", err)
	}
	return rates, nil
}

func (m *Meter) measure(ctx context.Context) (_ []Conversation, err error) {
	if m.programs == nil {
		if m.programs, err = load(); err != nil {
			return nil, err
		}
	}
	if err := m.programs.countFor(kept); err != nil {
		return nil, err
	}
	if err := m.follow(ctx); err != nil {
		return nil, err
	}
	if time.Since(m.at) > kept {
		if m.before, err = m.programs.read(); err != nil {
			return nil, err
		}
		m.at = time.Now()
		if err := pause.For(ctx, shortest); err != nil {
			return nil, err
		}
	}
	passed := time.Since(m.at)
	if passed < shortest {
		return m.rates, nil
	}
	now, err := m.programs.read()
	if err != nil {
		return nil, err
	}
	m.rates = m.compare(now, passed)
	m.before, m.at = now, time.Now()
	return m.rates, nil
}

// follow has the programs on all pairs, and forgets those that are gone.
func (m *Meter) follow(ctx context.Context) error {
	classes, owners := make(map[owner]uint16), make(map[uint16]owner)
	var failed error
	err := m.Each(ctx, func(at *nl.Handle, pair Pair) {
		o := owner{pair.Network, pair.Endpoint}
		class, known := m.classes[o]
		if !known && len(owners) < mostPairs {
			class = m.free(owners)
		}
		if class == 0 {
			return
		}
		if err := m.programs.attach(at, pair.End, class); err != nil {
			failed = cmp.Or(failed, err) // a pair may go meanwhile: the others are told of
			return
		}
		classes[o], owners[class] = class, o
	})
	m.classes, m.owners = classes, owners
	if len(classes) == 0 {
		err = cmp.Or(err, failed)
	}
	return err
}

// free gives a class that no pair has. What another pair's programs counted below it before
// is in what was read last, so it is in no rate.
func (m *Meter) free(taken map[uint16]owner) uint16 {
	for {
		m.class++
		_, had := m.owners[m.class]
		_, has := taken[m.class]
		if m.class != 0 && !had && !has {
			return m.class
		}
	}
}

// compare makes rates of what was counted in a time.
func (m *Meter) compare(now map[key]counters, passed time.Duration) []Conversation {
	var all []Conversation
	for k, c := range now {
		o, known := m.owners[uint16(k.Class)]
		was := m.before[k]
		if !known || c == was {
			continue
		}
		all = append(all, Conversation{
			Network: o.network, Endpoint: o.endpoint, Peer: k.peer(),
			Sent:     Rate{rate(was.SentBytes, c.SentBytes, passed), rate(was.SentPackets, c.SentPackets, passed)},
			Received: Rate{rate(was.ReceivedBytes, c.ReceivedBytes, passed), rate(was.ReceivedPackets, c.ReceivedPackets, passed)},
		})
	}
	busy := func(c Conversation) float64 { return c.Sent.Bytes + c.Received.Bytes }
	slices.SortFunc(all, func(a, b Conversation) int {
		return cmp.Or(cmp.Compare(busy(b), busy(a)), cmp.Compare(a.Endpoint, b.Endpoint), a.Peer.Compare(b.Peer))
	})
	return all[:min(len(all), Most)]
}

// rate is that of a counter. One that went back had made room for others, and began again.
func rate(before, now uint64, passed time.Duration) float64 {
	if now < before {
		before = 0
	}
	return math.Round(float64(now-before) / passed.Seconds())
}
