// Package tc puts BPF programs on devices, as filters of tc's clsact.
//
// A frame that comes in on a device, or goes out, passes the filters of that side in the
// order of their priorities, before any bridge on the way in. Filters stay when causeway
// ends, and go with their device.
package tc

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// The sides of a device.
const (
	In  = netlink.HANDLE_MIN_INGRESS
	Out = netlink.HANDLE_MIN_EGRESS
)

// The priorities of our filters: the lower one is asked first.
const (
	PriorityCheck = 1 + iota // others see only what may pass
	PriorityCount
	PriorityLead = 0xfff0 // behind those of others: what it takes elsewhere passes no more
)

// handle is that of all our filters; no two of them have a side and a priority.
const handle = 0xca05

// Object is what an object file has, programs and maps, in the kernel.
type Object struct {
	*ebpf.Collection
	ids map[string]ebpf.ProgramID
}

// Load loads an object file.
func Load(object []byte) (*Object, error) { return LoadWith(object, nil) }

// LoadWith has it use maps of an earlier run, by their names, in place of its own. They stay
// the caller's to close.
func LoadWith(object []byte, maps map[string]*ebpf.Map) (*Object, error) {
	// Kernels before 5.11 count maps as locked memory. Where the limit can't be raised
	// it may be high enough.
	_ = rlimit.RemoveMemlock()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, err
	}
	p := &Object{collection, make(map[string]ebpf.ProgramID)}
	for name, program := range collection.Programs {
		info, err := program.Info()
		if err != nil {
			collection.Close()
			return nil, err
		}
		p.ids[name], _ = info.ID()
	}
	return p, nil
}

// Filter is one of the programs in its place on a device.
type Filter struct {
	Side     uint32
	Priority uint16
	// Program is its name in the object file, Name what tc(8) shows.
	Program, Name string
	// Class is what the program reads as tc_classid.
	Class uint16
}

// Set puts a filter on a device; one that is in its place is replaced in one step.
func (p *Object) Set(at *nl.Handle, device netlink.Link, f Filter) error {
	qdisc := &netlink.GenericQdisc{QdiscType: "clsact", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: device.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := at.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add clsact to %s: %w", device.Attrs().Name, err)
	}
	filter := f.place(device)
	filter.Fd, filter.Name, filter.ClassId = p.Programs[f.Program].FD(), f.Name, uint32(f.Class)
	if err := at.FilterReplace(filter); err != nil {
		return fmt.Errorf("add the program to %s: %w", device.Attrs().Name, err)
	}
	return nil
}

func (f Filter) place(device netlink.Link) *netlink.BpfFilter {
	return &netlink.BpfFilter{DirectAction: true, FilterAttrs: netlink.FilterAttrs{
		LinkIndex: device.Attrs().Index, Parent: f.Side, Handle: handle, Priority: f.Priority, Protocol: unix.ETH_P_ALL,
	}}
}

// Get gives what is in the place of the filter; nil where nothing of ours is.
func (f Filter) Get(at *nl.Handle, device netlink.Link) (*netlink.BpfFilter, error) {
	filters, err := at.FilterList(device, f.Side)
	if err != nil {
		return nil, fmt.Errorf("list filters of %s: %w", device.Attrs().Name, err)
	}
	var ours *netlink.BpfFilter
	for _, filter := range filters {
		if bpf, ok := filter.(*netlink.BpfFilter); ok && bpf.Handle == handle && bpf.Priority == f.Priority {
			ours = bpf
		}
	}
	return ours, nil
}

// Is says whether what [Filter.Get] gave is the filter, with this very program.
func (p *Object) Is(have *netlink.BpfFilter, f Filter) bool {
	return p != nil && have != nil && have.Id == int(p.ids[f.Program]) && have.ClassId == uint32(f.Class) && have.Name == f.Name && have.DirectAction
}

// Delete takes away what is in the place of the filter, if there is anything of ours.
func (f Filter) Delete(at *nl.Handle, device netlink.Link) error {
	have, err := f.Get(at, device)
	if err != nil || have == nil {
		return err
	}
	if err := at.FilterDel(f.place(device)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the filter of %s: %w", device.Attrs().Name, err)
	}
	return nil
}
