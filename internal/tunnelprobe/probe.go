// Package tunnelprobe sends real frames through a network's tunnel to containers on other
// hosts, and says whose answers come back, and when.
//
// A question's path: an ARP request to one container alone, from a container of this host,
// leaves by the network's VXLAN device ([Reach]); the container's kernel answers whatever
// runs in it, and the answer is heard on the same device. A second ear on the host's NIC
// ([Listen]) hears answers that come to the host and are dropped there, by its firewall.
package tunnelprobe

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/wire"
)

const (
	rounds = 3
	every  = 250 * time.Millisecond
	all    = 1 << 16
)

// Answer is how a station answered.
type Answer struct {
	// Asked is how many questions it was sent.
	Asked int
	// After is how long after the last of them its answer came; zero: none did.
	After time.Duration
}

// Reach asks stations that are behind link, in namespace ns, by a frame of size bytes from
// the station from, and says how each answered. It asks up to three times, and ends 250 ms
// after the last, or when all have answered.
func Reach(ctx context.Context, ns netns.NsHandle, link netlink.Link, from addrprobe.Station, to []addrprobe.Station, size int) (map[addrprobe.Station]Answer, error) {
	// A port's frames go to its bridge before a socket of one protocol hears them.
	socket, err := wire.Open(ns, link, unix.ETH_P_ALL, replies(0))
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	asking := newRound(to)
	listening := make(chan error, 1)
	go func() { listening <- asking.listen(socket) }() // an answer may come while others are asked
	err = asking.ask(ctx, socket, from, size)
	return asking.answers, errors.Join(err, socket.SetReadDeadline(time.Now()), <-listening)
}

// round is what is asked and was answered.
type round struct {
	stations []addrprobe.Station
	// all is closed when none is missing.
	all chan struct{}

	mu      sync.Mutex // guards what follows
	answers map[addrprobe.Station]Answer
	asked   map[addrprobe.Station]time.Time
	missing int
}

func newRound(to []addrprobe.Station) *round {
	r := &round{answers: make(map[addrprobe.Station]Answer), asked: make(map[addrprobe.Station]time.Time), all: make(chan struct{})}
	for _, station := range to {
		r.answers[station] = Answer{}
	}
	r.stations = slices.Collect(maps.Keys(r.answers))
	if r.missing = len(r.stations); r.missing == 0 {
		close(r.all)
	}
	return r
}

// ask asks those that have not answered, up to three times.
func (r *round) ask(ctx context.Context, socket *os.File, from addrprobe.Station, size int) error {
	for range rounds {
		for _, station := range r.stations {
			if !r.note(station) {
				continue
			}
			if _, err := socket.Write(addrprobe.Question(from, station, size)); err != nil && !errors.Is(err, unix.EMSGSIZE) {
				return err
			}
		}
		timer := time.NewTimer(every)
		select {
		case <-r.all:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if err := ctx.Err(); err != nil || r.done() {
			return err
		}
	}
	return nil
}

// note notes that a station is asked now; false: it has answered.
func (r *round) note(station addrprobe.Station) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.answers[station]
	if answer.After > 0 {
		return false
	}
	answer.Asked++
	r.answers[station], r.asked[station] = answer, time.Now()
	return true
}

func (r *round) done() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.missing == 0
}

// listen notes answers until the socket's deadline.
func (r *round) listen(socket *os.File) error {
	frame := make([]byte, 2048)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if station, ok := addrprobe.Answer(frame[:n]); ok {
			r.answered(station)
		}
	}
}

func (r *round) answered(station addrprobe.Station) {
	r.mu.Lock()
	defer r.mu.Unlock()
	answer := r.answers[station]
	if answer.Asked == 0 || answer.After > 0 { // somebody else asked it, or it answers twice
		return
	}
	answer.After = max(1, time.Since(r.asked[station]))
	r.answers[station] = answer
	if r.missing--; r.missing == 0 {
		close(r.all)
	}
}

// replies passes ARP replies that begin at an offset of the frame.
func replies(offset uint32) []bpf.Instruction {
	const protocol, operation, reply = 12, 20, 2
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: offset + protocol, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_ARP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: offset + operation, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: reply, SkipTrue: 1},
		bpf.RetConstant{Val: all},
		bpf.RetConstant{Val: 0},
	}
}
