// Package portfilter keeps a container to what it may send: its own MAC and
// addresses, no more of them than it has, nothing that only routers, DHCP servers
// and bridges say, and no more broadcasts and bytes than its network allows.
//
// A frame's path: it leaves the container and comes in on the host's end of the pair.
// There, before any bridge, a program (filter.c, BPF on tc's clsact) looks up the
// port's entry in a map, drops the frame and counts the reason, or lets it go on. What
// goes to the container is slowed down by a token bucket of tc (shape.go), where its
// network has a rate.
//
// A port's path: a data plane calls [Filters.Put] before it hands the link out, and
// [Filters.Mend] when it reads the kernel back. Filters go with their links; what was
// counted for them is forgotten by [Filters.Retain]. When causeway ends, the filters
// stay. The next one replaces each in one step, and counts from zero.
package portfilter

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Filters are the filters of one data plane's ports, in any number of network
// namespaces. Any goroutine may use them. The zero value is ready.
type Filters struct {
	mu      sync.Mutex
	program *program
	ports   map[string]*port // by endpoint ID
	last    uint16           // the class that was given out last
}

// port is what is known of a port that has a filter.
type port struct {
	class uint16
	rule  entry
}

// Port is the host's end of a pair, and the rule for its container.
type Port struct {
	End  netlink.Link
	Rule Rule
}

// Close lets go of the program. Filters that are in place stay.
func (f *Filters) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.program == nil {
		return nil
	}
	defer func() { f.program, f.ports = nil, nil }()
	f.program.Close()
	return nil
}

// Check says why this host's kernel can't filter the ports of network; nil when it can.
func (f *Filters) Check(network fabric.Network) error {
	if RuleOf(network, fabric.Endpoint{}).open() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.load()
}

func (f *Filters) load() (err error) {
	if f.program == nil {
		f.program, err = loadProgram()
	}
	return err
}

// Put has the port filtered as its rule says; idempotent. It reads nothing back.
// After an error the container must not get its link.
func (f *Filters) Put(at *nl.Handle, p Port) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.put(at, p); err != nil {
		return describe(p, err)
	}
	return nil
}

func (f *Filters) put(at *nl.Handle, p Port) error {
	if err := shape(at, p); err != nil {
		return err
	}
	if p.Rule.open() {
		delete(f.ports, p.Rule.Endpoint)
		return place().Delete(at, p.End)
	}
	entry, err := newEntry(p.Rule)
	if err != nil {
		return err
	}
	if err := f.load(); err != nil {
		return err
	}
	known := f.ports[p.Rule.Endpoint]
	if known == nil || known.rule != entry {
		if known, err = f.enter(known, entry); err != nil {
			return err
		}
		if f.ports == nil {
			f.ports = make(map[string]*port)
		}
		f.ports[p.Rule.Endpoint] = known
	}
	return f.program.Set(at, p.End, known.filter())
}

// enter writes a port's entry: its own one again, or one that is free.
func (f *Filters) enter(known *port, entry entry) (*port, error) {
	if known != nil {
		return &port{known.class, entry}, f.program.write(known.class, entry)
	}
	for range maxPorts {
		f.last = f.last%maxPorts + 1
		taken, err := f.program.claim(f.last, entry)
		if err != nil {
			return nil, err
		}
		if !taken {
			return &port{f.last, entry}, nil
		}
	}
	return nil, fmt.Errorf("this host has %d filters already", maxPorts)
}

// Mend puts those of the ports right that are not, and counts them.
func (f *Filters) Mend(at *nl.Handle, ports []Port) (repaired int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shaped, err := shapes(at, ports)
	if err != nil {
		return 0, err
	}
	for _, p := range ports {
		right, err := f.right(at, p, shaped)
		if err == nil && !right {
			if err = f.put(at, p); errors.Is(err, unix.ENODEV) {
				continue // the container ended meanwhile
			}
			repaired++
		}
		if err != nil {
			return repaired, describe(p, err)
		}
	}
	return repaired, nil
}

// Wrong says whether one of the ports is not filtered as its rule says.
func (f *Filters) Wrong(at *nl.Handle, ports []Port) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	shaped, err := shapes(at, ports)
	if err != nil {
		return false, err
	}
	for _, p := range ports {
		if right, err := f.right(at, p, shaped); err != nil || !right {
			return true, err
		}
	}
	return false, nil
}

// Inspect says in a sentence that ports are not filtered as their rules say.
func (f *Filters) Inspect(at *nl.Handle, ports []Port) ([]string, error) {
	wrong, err := f.Wrong(at, ports)
	if !wrong || err != nil {
		return nil, err
	}
	return []string{"the filter or the rate of a container's port is not as the network has it"}, nil
}

// right says that a port is filtered as its rule says, and is one of those that have their
// rate.
func (f *Filters) right(at *nl.Handle, p Port, shaped map[int]bool) (bool, error) {
	filtered, err := f.filtered(at, p)
	return filtered && shaped[p.End.Attrs().Index], err
}

func (f *Filters) filtered(at *nl.Handle, p Port) (bool, error) {
	have, err := place().Get(at, p.End)
	if err != nil {
		return false, err
	}
	if p.Rule.open() {
		return have == nil, nil
	}
	entry, err := newEntry(p.Rule)
	known := f.ports[p.Rule.Endpoint]
	if err != nil || known == nil || have == nil {
		return false, err
	}
	return known.rule == entry && f.program.Is(have, known.filter()), nil
}

// Retain forgets the ports of all endpoints but those of keep.
func (f *Filters) Retain(keep []fabric.Segment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := make(map[string]bool)
	for _, segment := range keep {
		for _, endpoint := range segment.Local {
			kept[endpoint.ID] = true
		}
	}
	for id, port := range f.ports {
		if kept[id] {
			continue
		}
		if err := f.program.free(port.class); err != nil {
			return fmt.Errorf("forget the port filter of endpoint %.12s: %w", id, err)
		}
		delete(f.ports, id)
	}
	return nil
}

// Drops counts the frames that were dropped since the filters were put, by endpoint
// ID; endpoints without any are left out.
func (f *Filters) Drops() (map[string]fabric.Drops, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]fabric.Drops)
	for id, port := range f.ports {
		counts, err := f.program.counts(port.class)
		if err != nil {
			return nil, fmt.Errorf("read what was dropped of endpoint %.12s: %w", id, err)
		}
		if len(counts) > 0 {
			all[id] = counts
		}
	}
	return all, nil
}

func describe(p Port, err error) error {
	return fmt.Errorf("filter what endpoint %.12s may send: %w", p.Rule.Endpoint, err)
}
