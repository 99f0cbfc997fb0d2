package portfilter

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/tc"
)

//go:generate clang -O2 -g -mcpu=v2 -target bpf -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -Wall -Werror -c filter.c -o filter.o
//go:generate llvm-strip -g filter.o

//go:embed filter.o
var object []byte //nolint:gochecknoglobals // go:embed asks for one

// The sizes of filter.c.
const (
	maxAddresses = 20
	maxPorts     = 65535
)

// entry is a port's in the map, struct port of filter.c, with its counters at zero.
type entry struct {
	Check, Floats             uint32
	BroadcastCost, RateCost   uint64 // of a frame, of a KiB, in ns
	BroadcastUntil, RateUntil uint64
	Drops                     [reasons]uint64
	Addr4                     [maxAddresses][4]byte
	Addr6                     [maxAddresses][16]byte
	MAC                       fabric.MAC
	Count4, Count6            uint8
}

func newEntry(rule Rule) (entry, error) {
	e := entry{MAC: rule.MAC}
	if !rule.Anyone {
		e.Check = 1
	}
	if len(rule.Floats) > 0 {
		e.Floats = 1
	}
	if rule.Broadcasts > 0 {
		e.BroadcastCost = uint64(time.Second) / uint64(rule.Broadcasts)
	}
	if rule.Rate > 0 {
		e.RateCost = max(1, 8*1024*uint64(time.Second)/rule.Rate)
	}
	for _, addr := range append(rule.Addrs[:len(rule.Addrs):len(rule.Addrs)], rule.Floats...) {
		count := &e.Count4
		if addr.Is6() {
			count = &e.Count6
		}
		if *count == maxAddresses {
			return entry{}, fmt.Errorf("it has more than %d addresses of one family, those that float included", maxAddresses)
		}
		if addr.Is6() {
			e.Addr6[*count] = addr.As16()
		} else {
			e.Addr4[*count] = addr.As4()
		}
		*count++
	}
	for i := int(e.Count4); i < maxAddresses; i++ {
		e.Addr4[i] = e.Addr4[0]
	}
	for i := int(e.Count6); i < maxAddresses; i++ {
		e.Addr6[i] = e.Addr6[0]
	}
	return e, nil
}

// program is the program and its map, loaded once for all ports.
type program struct {
	*tc.Object
	ports *ebpf.Map
}

func loadProgram() (*program, error) {
	loaded, err := tc.Load(object)
	if err != nil {
		return nil, fmt.Errorf("this kernel does not take the filter that keeps containers to their own addresses"+
			" (BPF, Linux 5.10 or newer; networks with -o spoofing=allow and -o broadcast-rate=none go without): %w", err)
	}
	return &program{loaded, loaded.Maps["ports"]}, nil
}

// claim writes the entry of a class, if it is free.
func (p *program) claim(class uint16, e entry) (taken bool, err error) {
	err = p.ports.Update(uint32(class), e, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return true, nil
	}
	return false, err
}

func (p *program) write(class uint16, e entry) error {
	return p.ports.Update(uint32(class), e, ebpf.UpdateExist)
}

func (p *program) free(class uint16) error { return p.ports.Delete(uint32(class)) }

func (p *program) counts(class uint16) (fabric.Drops, error) {
	var e entry
	if err := p.ports.Lookup(uint32(class), &e); err != nil {
		return nil, err
	}
	counts := make(fabric.Drops)
	for reason, count := range e.Drops {
		if count > 0 {
			counts[reasonText(reason)] = count
		}
	}
	return counts, nil
}

const programName = "causeway_port"

// place is where a port's filter is on the host's end.
func place() tc.Filter {
	return tc.Filter{Side: tc.In, Priority: tc.PriorityCheck, Program: programName}
}

// filter is a port's.
func (p *port) filter() tc.Filter {
	f := place()
	f.Name, f.Class = p.name(), p.class
	return f
}

// name shows whose a filter is, and by what rule.
func (p *port) name() string {
	var text bytes.Buffer
	_ = binary.Write(&text, binary.LittleEndian, p.rule) // a Buffer takes everything
	return "causeway:" + fabric.ShortHash(text.String())
}
