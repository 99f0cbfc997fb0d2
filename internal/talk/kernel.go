package talk

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/tc"
)

//go:generate clang -O2 -g -mcpu=v2 -target bpf -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -Wall -Werror -c talk.c -o talk.o
//go:generate llvm-strip -g talk.o

//go:embed talk.o
var object []byte //nolint:gochecknoglobals // go:embed asks for one

// key and counters are those of talk.c.
type key struct {
	Class uint32
	Peer  [16]byte
}

func (k key) peer() netip.Addr { return netip.AddrFrom16(k.Peer).Unmap() }

type counters struct {
	SentBytes, SentPackets, ReceivedBytes, ReceivedPackets uint64
}

// programs are the two programs and their maps.
type programs struct {
	*tc.Object
}

func load() (*programs, error) {
	object, err := tc.Load(object)
	if err != nil {
		return nil, fmt.Errorf("this kernel does not take the programs that count who talks to whom (BPF, Linux 5.10 or newer): %w", err)
	}
	return &programs{object}, nil
}

// attach puts the programs on both sides of a host's end, where they are not there.
func (p *programs) attach(at *nl.Handle, end netlink.Link, class uint16) error {
	for side, program := range map[uint32]string{tc.In: "causeway_sends", tc.Out: "causeway_gets"} {
		filter := tc.Filter{Side: side, Priority: tc.PriorityCount, Program: program, Name: program, Class: class}
		have, err := filter.Get(at, end)
		if err == nil && !p.Is(have, filter) {
			err = p.Set(at, end, filter)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// countFor has the programs count for some time from now on.
func (p *programs) countFor(long time.Duration) error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return err
	}
	return p.Maps["until"].Put(uint32(0), uint64(now.Nano())+uint64(long))
}

// read gives all that was counted. Where the map changes meanwhile some may be left out.
func (p *programs) read() (map[key]counters, error) {
	var (
		all    = make(map[key]counters)
		k      key
		c      counters
		walker = p.Maps["talk"].Iterate()
	)
	for walker.Next(&k, &c) {
		all[k] = c
	}
	if err := walker.Err(); !errors.Is(err, ebpf.ErrIterationAborted) {
		return all, err
	}
	return all, nil
}
