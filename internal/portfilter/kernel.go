package portfilter

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
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
	*ebpf.Collection
	id    ebpf.ProgramID
	ports *ebpf.Map
}

const (
	programName = "causeway_port"
	filterName  = "causeway:"
	// Our filter comes first on a port: others see only what may pass.
	preference = 1
	handle     = 0xca05
)

func loadProgram() (*program, error) {
	p, err := tryLoad()
	if err != nil {
		return nil, fmt.Errorf("this kernel does not take the filter that keeps containers to their own addresses"+
			" (BPF, Linux 5.10 or newer; networks with -o spoofing=allow and -o broadcast-rate=none go without): %w", err)
	}
	return p, nil
}

func tryLoad() (*program, error) {
	// Kernels before 5.11 count maps as locked memory. Where the limit can't be raised
	// it may be high enough.
	_ = rlimit.RemoveMemlock()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, err
	}
	info, err := collection.Programs[programName].Info()
	if err != nil {
		collection.Close()
		return nil, err
	}
	id, _ := info.ID()
	return &program{collection, id, collection.Maps["ports"]}, nil
}

func (p *program) Close() error {
	p.Collection.Close()
	return nil
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

// attach sets the port's filter; one that is there is replaced in one step.
func (p *program) attach(at *nl.Handle, end netlink.Link, port *port) error {
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: end.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := at.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to %s: %w", end.Attrs().Name, err)
	}
	filter := newFilter(end)
	filter.Fd, filter.Name, filter.ClassId = p.Programs[programName].FD(), port.name(), uint32(port.class)
	if err := at.FilterReplace(filter); err != nil {
		return fmt.Errorf("add the program to %s: %w", end.Attrs().Name, err)
	}
	return nil
}

func newFilter(end netlink.Link) *netlink.BpfFilter {
	return &netlink.BpfFilter{DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: end.Attrs().Index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: handle, Priority: preference, Protocol: unix.ETH_P_ALL,
	}}
}

// name shows whose a filter is, and by what rule.
func (p *port) name() string {
	var text bytes.Buffer
	_ = binary.Write(&text, binary.LittleEndian, p.rule) // a Buffer takes everything
	return filterName + fabric.ShortHash(text.String())
}

// attached gives our filter of a port; nil without one.
func attached(at *nl.Handle, end netlink.Link) (*netlink.BpfFilter, error) {
	filters, err := at.FilterList(end, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return nil, fmt.Errorf("list filters of %s: %w", end.Attrs().Name, err)
	}
	var ours *netlink.BpfFilter
	for _, filter := range filters {
		if bpf, ok := filter.(*netlink.BpfFilter); ok && bpf.Handle == handle && bpf.Priority == preference {
			ours = bpf
		}
	}
	return ours, nil
}

func (p *program) is(have *netlink.BpfFilter, port *port) bool {
	return p != nil && have.Id == int(p.id) && have.ClassId == uint32(port.class) && have.Name == port.name() && have.DirectAction
}

// detach takes our filter away, if there is one.
func detach(at *nl.Handle, end netlink.Link) error {
	have, err := attached(at, end)
	if err != nil || have == nil {
		return err
	}
	if err := at.FilterDel(newFilter(end)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the filter of %s: %w", end.Attrs().Name, err)
	}
	return nil
}
