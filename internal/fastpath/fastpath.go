// Package fastpath leads the established connections of routed networks past the host's
// forwarding, by two programs (path.c, BPF on tc's clsact): from a container to the NIC,
// from the NIC into a container, and between containers of one host.
//
// A connection's path: its SYN, and the answer to it, pass the host as all packets do. The
// port's filter, the tables of causeway and of the host's users, NAT and routing decide.
// When both leave the host with the addresses that the containers know, and by the way
// that is entered here, the connection is noted. What follows takes that way at once: the
// program takes one from the TTL, and hands the packet to the next hop's NIC or to the
// container's end of its pair. It must come from where its sender is, for the gateway's
// MAC, and fit. All else goes on to the stack: other protocols, fragments, options, what is
// too large, and what is of no connection that is noted. NAT of others shows other
// addresses at one of the two ends, so that what it rewrites is not noted.
//
// A way's path: a data plane calls [Paths.Put] for each route and each container, and
// [Paths.Remove]; [Paths.Mend] when it reads the kernel back, [Paths.Prune] when it knows
// all. A kernel that takes no such program has the stack carry everything. When causeway
// ends, the programs stay; the next one takes over what they have noted.
package fastpath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Way is where packets to a prefix lead.
type Way struct {
	// Network is the ID of the one whose addresses these are.
	Network string
	// Link is the host's end of the container's pair, or the NIC, by its index.
	Link int
	// MTU is what a packet may have, in bytes.
	MTU int
	// Via is the next hop; zero: a container of this host has the address.
	Via netip.Addr
	// MAC is that container's, Gateway that of its gateway.
	MAC, Gateway fabric.MAC
}

// Paths are the ways of one host. Any goroutine may use them.
type Paths struct {
	at  *nl.Handle
	log *logrus.Entry

	mu       sync.Mutex
	programs *programs
	lacking  error // why this kernel has none
	ways     map[netip.Prefix]Way
	links    map[int]int       // how many ways use a link
	numbers  map[string]uint32 // of the networks
	last     uint32
	// refused are links that took no program, left those that no way uses any more.
	refused, left map[int]bool
	// past is what containers that are gone had counted, by network.
	past map[string]Counted
	// swept says that what an earlier run has left on links is gone.
	swept bool
}

// New gives the paths of the host whose namespace is at's; nothing is changed before Put.
func New(at *nl.Handle, log *logrus.Entry) *Paths {
	return &Paths{
		at: at, log: log, ways: make(map[netip.Prefix]Way), links: make(map[int]int), numbers: make(map[string]uint32),
		refused: make(map[int]bool), left: make(map[int]bool), past: make(map[string]Counted),
	}
}

// Close lets go of the programs. Those that are in place stay.
func (p *Paths) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.programs != nil {
		p.programs.Close()
		p.programs = nil
		clear(p.ways)
		clear(p.links)
	}
	return nil
}

// load has the programs; false where this kernel takes none.
func (p *Paths) load() bool {
	if p.programs != nil || p.lacking != nil {
		return p.programs != nil
	}
	if p.programs, p.lacking = loadPrograms(p.at); p.lacking != nil {
		p.log.WithError(p.lacking).Info("this kernel forwards all packets of routed networks itself: it takes no programs (BPF, Linux 5.10 or newer) that lead connections past that")
	}
	return p.programs != nil
}

// Put has packets to the prefix take the way; idempotent. Where that can't be, the stack
// carries them.
func (p *Paths) Put(prefix netip.Prefix, to Way) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ways[prefix] == to || p.refused[to.Link] || !p.load() {
		return
	}
	err := errors.Join(p.remove(prefix), p.put(prefix, to))
	if err != nil {
		p.refused[to.Link] = true
		p.log.WithError(err).Warn("connections of routed networks take the slower way through the host's own forwarding")
	}
}

func (p *Paths) put(prefix netip.Prefix, to Way) error {
	if p.links[to.Link] == 0 {
		if err := p.enter(to); err != nil {
			return err
		}
	}
	if p.numbers[to.Network] == 0 {
		p.last++
		p.numbers[to.Network] = p.last
	}
	if err := p.programs.setWay(prefix, newWay(to, p.numbers[to.Network])); err != nil {
		return fmt.Errorf("enter the way to %s: %w", prefix, err)
	}
	p.ways[prefix] = to
	p.links[to.Link]++
	return nil
}

// enter begins with a link.
func (p *Paths) enter(to Way) error {
	if !to.Via.IsValid() {
		if err := p.programs.startCount(to.Link); err != nil {
			return fmt.Errorf("count on link %d: %w", to.Link, err)
		}
	}
	delete(p.left, to.Link)
	return p.programs.attach(p.at, to.Link)
}

// leave ends with a way of a link.
func (p *Paths) leave(way Way) {
	if p.links[way.Link]--; p.links[way.Link] > 0 {
		return
	}
	delete(p.links, way.Link)
	p.left[way.Link] = true
	if !way.Via.IsValid() {
		p.past[way.Network] = p.past[way.Network].plus(p.programs.count(way.Link))
		_ = p.programs.endCount(way.Link) // there is none where it could not begin
	}
}

// Remove has the stack carry what is for the prefix.
func (p *Paths) Remove(prefix netip.Prefix) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remove(prefix)
}

func (p *Paths) remove(prefix netip.Prefix) error {
	have, there := p.ways[prefix]
	if !there {
		return nil
	}
	if err := p.programs.deleteWay(prefix); err != nil {
		return fmt.Errorf("delete the fast path to %s: %w", prefix, err)
	}
	delete(p.ways, prefix)
	p.leave(have)
	return nil
}

// Wrong says whether one of the links lacks a program that it should have.
func (p *Paths) Wrong(links map[int]bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for link := range links {
		if p.links[link] > 0 && p.wrong(link) {
			return true
		}
	}
	return false
}

// wrong says that a link lacks a program; not of one that is gone, with its programs.
func (p *Paths) wrong(link int) bool {
	right, err := p.programs.attached(p.at, link)
	return err == nil && !right
}

// Mend attaches the programs where they are missing, and counts the links.
func (p *Paths) Mend() (repaired int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, link := range slices.Sorted(maps.Keys(p.links)) {
		if !p.wrong(link) {
			continue
		}
		err := p.programs.attach(p.at, link)
		if errors.Is(err, unix.ENODEV) {
			continue // the container ended meanwhile
		}
		if err != nil {
			return repaired, fmt.Errorf("fast path: %w", err)
		}
		repaired++
	}
	return repaired, nil
}

// Prune forgets the networks that are not kept, and takes the programs off the links that no
// way uses, an earlier run's too.
func (p *Paths) Prune(keep map[string]bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for prefix, way := range p.ways {
		if !keep[way.Network] {
			if err := p.remove(prefix); err != nil {
				return err
			}
		}
	}
	maps.DeleteFunc(p.numbers, func(network string, _ uint32) bool { return !keep[network] })
	maps.DeleteFunc(p.past, func(network string, _ Counted) bool { return !keep[network] })
	return p.detachUnused()
}

// detachUnused looks at the links that were left, and the first time at all.
func (p *Paths) detachUnused() error {
	links, err := p.at.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		index := link.Attrs().Index
		if p.links[index] > 0 || p.swept && !p.left[index] {
			continue
		}
		if err := detach(p.at, link); err != nil {
			return fmt.Errorf("fast path: %w", err)
		}
	}
	clear(p.left)
	if !p.swept && p.programs != nil {
		p.programs.endOtherCounts(p.links)
	}
	p.swept = true
	return nil
}

// Counted is what was led past the stack: what came in from other hosts, went out to them,
// and came from containers of this host. Its order is that of path.c.
type Counted struct {
	InPackets, InBytes, OutPackets, OutBytes, LocalPackets, LocalBytes uint64
}

func (c Counted) plus(other Counted) Counted {
	return Counted{
		c.InPackets + other.InPackets, c.InBytes + other.InBytes, c.OutPackets + other.OutPackets, c.OutBytes + other.OutBytes,
		c.LocalPackets + other.LocalPackets, c.LocalBytes + other.LocalBytes,
	}
}

// Counted tells what of a network was led past, since it came.
func (p *Paths) Counted(network string) Counted {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum, links := p.past[network], make(map[int]bool)
	for _, way := range p.ways {
		if way.Network == network && !way.Via.IsValid() && !links[way.Link] {
			links[way.Link] = true
			sum = sum.plus(p.programs.count(way.Link))
		}
	}
	return sum
}

// Suits says whether a link can be a way to other hosts: one whose frames are Ethernet's, of
// the same sort as the NIC's.
func Suits(link netlink.Link) bool {
	_, tunnel := link.(*netlink.Vxlan)
	return link.Attrs().EncapType == "ether" && !tunnel && link.Attrs().RawFlags&unix.IFF_NOARP == 0
}
