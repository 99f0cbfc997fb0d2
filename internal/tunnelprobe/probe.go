// Package tunnelprobe sends real frames through a network's tunnel to containers on other
// hosts, and says whose answers come back.
//
// A question's path: an ARP request to one container alone, from a container of this host,
// leaves by the network's VXLAN device ([Reach]); the container's kernel answers whatever
// runs in it, and the answer is heard on the same device. A second ear on the host's NIC
// ([Listen]) hears answers that come to the host and are dropped there, by its firewall.
package tunnelprobe

import (
	"context"
	"errors"
	"os"
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

// Reach asks stations that are behind link, in namespace ns, by a frame of size bytes from
// the station from, and gives those that answer. It asks three times, and ends 250 ms
// after the last, or when all have answered.
func Reach(ctx context.Context, ns netns.NsHandle, link netlink.Link, from addrprobe.Station, to []addrprobe.Station, size int) (answered map[addrprobe.Station]bool, err error) {
	// A port's frames go to its bridge before a socket of one protocol hears them.
	socket, err := wire.Open(ns, link, unix.ETH_P_ALL, replies(0))
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	answered = make(map[addrprobe.Station]bool, len(to))
	asked := make(map[addrprobe.Station]bool, len(to))
	for _, station := range to {
		asked[station] = true
	}
	for range rounds {
		for station := range asked {
			if answered[station] {
				continue
			}
			if _, err := socket.Write(addrprobe.Question(from, station, size)); err != nil && !errors.Is(err, unix.EMSGSIZE) {
				return answered, err
			}
		}
		err := hear(ctx, socket, time.Now().Add(every), func(frame []byte) (done bool) {
			if station, ok := addrprobe.Answer(frame); ok && asked[station] {
				answered[station] = true
			}
			return len(answered) == len(asked)
		})
		if err != nil || len(answered) == len(asked) {
			return answered, err
		}
	}
	return answered, nil
}

// hear reads frames until take is done, the time is over or ctx ends.
func hear(ctx context.Context, socket *os.File, until time.Time, take func([]byte) (done bool)) error {
	if end, limited := ctx.Deadline(); limited && end.Before(until) {
		until = end
	}
	if err := socket.SetReadDeadline(until); err != nil {
		return err
	}
	frame := make([]byte, 2048)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		if take(frame[:n]) {
			return nil
		}
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
