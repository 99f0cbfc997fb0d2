package fastpath

import (
	_ "embed"
	"errors"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/tc"
)

//go:generate clang -O2 -g -mcpu=v2 -target bpf -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -Wall -Werror -c path.c -o path.o
//go:generate llvm-strip -g path.o

//go:embed path.o
var object []byte //nolint:gochecknoglobals // go:embed asks for one

// The names in path.c.
const (
	fast       = "causeway_fast"
	seen       = "causeway_seen"
	waysName   = "ways"
	flowsName  = "flows"
	countsName = "counts"
)

// way is struct way of path.c.
type way struct {
	Link, Network, MTU, Family uint32
	Via                        [16]byte
	MAC, Gateway               fabric.MAC
}

func newWay(to Way, number uint32) way {
	w := way{Link: uint32(to.Link), Network: number, MTU: uint32(to.MTU), MAC: to.MAC, Gateway: to.Gateway}
	switch via := to.Via.Unmap(); {
	case via.Is4():
		w.Family = unix.AF_INET
		copy(w.Via[:], via.AsSlice())
	case via.Is6():
		w.Family, w.Via = unix.AF_INET6, via.As16()
	}
	return w
}

// prefix is the key of the map of ways.
type prefix struct {
	Length uint32
	Addr   [16]byte
}

func keyOf(of netip.Prefix) prefix {
	const mapped = 96
	length := uint32(of.Bits())
	if of.Addr().Is4() {
		length += mapped
	}
	return prefix{length, of.Masked().Addr().As16()}
}

// programs are the programs and their maps, loaded once for all links.
type programs struct{ *tc.Object }

// places are where they are on a link.
func places() [2]tc.Filter {
	return [2]tc.Filter{
		{Side: tc.In, Priority: tc.PriorityLead, Program: fast, Name: fast},
		{Side: tc.Out, Priority: tc.PriorityLead, Program: seen, Name: seen},
	}
}

// loadPrograms has the programs go on with what an earlier run's have noted and counted, if
// they understand it.
func loadPrograms(at *nl.Handle) (*programs, error) {
	earlier := earlierMaps(at)
	defer func() {
		for _, one := range earlier {
			_ = one.Close() // the programs hold it
		}
	}()
	loaded, err := tc.LoadWith(object, earlier)
	if err != nil && len(earlier) > 0 {
		loaded, err = tc.Load(object)
	}
	if err != nil {
		return nil, err
	}
	return &programs{loaded}, nil
}

// earlierMaps are those of a program of ours that is on a link, but for its ways; none
// without one.
func earlierMaps(at *nl.Handle) map[string]*ebpf.Map {
	links, err := at.LinkList()
	if err != nil {
		return nil
	}
	for _, link := range links {
		have, err := places()[0].Get(at, link)
		if err == nil && have != nil {
			return mapsOf(ebpf.ProgramID(have.Id))
		}
	}
	return nil
}

func mapsOf(id ebpf.ProgramID) map[string]*ebpf.Map {
	found := make(map[string]*ebpf.Map)
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return nil
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		one, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		info, err := one.Info()
		if err == nil && (info.Name == flowsName || info.Name == countsName) {
			found[info.Name] = one
		} else {
			_ = one.Close() // it is another
		}
	}
	return found
}

func (p *programs) setWay(of netip.Prefix, to way) error {
	return p.Maps[waysName].Update(keyOf(of), to, ebpf.UpdateAny)
}

func (p *programs) deleteWay(of netip.Prefix) error {
	if err := p.Maps[waysName].Delete(keyOf(of)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// startCount has the programs count a container's packets, by the host's end of its pair.
func (p *programs) startCount(link int) error {
	processors, err := ebpf.PossibleCPU()
	if err != nil {
		return err
	}
	err = p.Maps[countsName].Update(uint32(link), make([]Counted, processors), ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil // an earlier run began
	}
	return err
}

// endOtherCounts forgets those of links that are not kept.
func (p *programs) endOtherCounts(keep map[int]int) {
	var link uint32
	var each []Counted
	var gone []int
	for all := p.Maps[countsName].Iterate(); all.Next(&link, &each); {
		if keep[int(link)] == 0 {
			gone = append(gone, int(link))
		}
	}
	for _, link := range gone {
		_ = p.endCount(link) // it is gone
	}
}

func (p *programs) endCount(link int) error { return p.Maps[countsName].Delete(uint32(link)) }

func (p *programs) count(link int) (sum Counted) {
	var each []Counted
	if p.Maps[countsName].Lookup(uint32(link), &each) != nil {
		return sum
	}
	for _, c := range each {
		sum = sum.plus(c)
	}
	return sum
}

// attach has both programs on a link; each that is there is replaced in one step.
func (p *programs) attach(at *nl.Handle, index int) error {
	link, err := at.LinkByIndex(index)
	if err != nil {
		return err
	}
	for _, place := range places() {
		if err := p.Set(at, link, place); err != nil {
			return err
		}
	}
	return nil
}

// attached says whether a link has both.
func (p *programs) attached(at *nl.Handle, index int) (bool, error) {
	link, err := at.LinkByIndex(index)
	if err != nil {
		return false, err
	}
	for _, place := range places() {
		have, err := place.Get(at, link)
		if err != nil || !p.Is(have, place) {
			return false, err
		}
	}
	return true, nil
}

// detach takes ours off a link, where they are there.
func detach(at *nl.Handle, link netlink.Link) error {
	for _, place := range places() {
		if err := place.Delete(at, link); err != nil {
			return err
		}
	}
	return nil
}
