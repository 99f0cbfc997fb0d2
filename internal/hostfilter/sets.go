package hostfilter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// The sets of the table.
const (
	networksSet = "networks" // VNIs of ours
	senders4Set = "senders4" // VNI . source address
	senders6Set = "senders6"
	hosts4Set   = "hosts4"
	hosts6Set   = "hosts6"
	lansSet     = "lans"   // bridges that are parts of the LAN
	sealedSet   = "sealed" // addresses of this host's WireGuard devices
	endsSet     = "ends"   // addresses of the other hosts' ones
)

// elements are those of some sets, by the sets' names.
type elements map[string][]nftables.SetElement

// each hands them on in parts that fit into a netlink attribute, of 64 KiB at most.
func (e elements) each(sets map[string]*nftables.Set, do func(*nftables.Set, []nftables.SetElement) error) error {
	const part = 500
	var errs []error
	for name, all := range e {
		for some := range slices.Chunk(all, part) {
			errs = append(errs, do(sets[name], some))
		}
	}
	return errors.Join(errs...)
}

func (e elements) empty() bool {
	for _, all := range e {
		if len(all) > 0 {
			return false
		}
	}
	return true
}

func (f *Filter) sets() map[string]*nftables.Set {
	sets := make(map[string]*nftables.Set)
	add := func(name string, key ...nftables.SetDatatype) {
		sets[name] = &nftables.Set{
			// The library would number sets by a counter that goroutines share without a lock.
			ID: uint32(len(sets) + 1), Table: table(), Name: name,
			KeyType: nftables.MustConcatSetType(key...), Concatenation: len(key) > 1,
		}
	}
	add(networksSet, nftables.TypeMark)
	add(senders4Set, nftables.TypeMark, nftables.TypeIPAddr)
	add(senders6Set, nftables.TypeMark, nftables.TypeIP6Addr)
	add(hosts4Set, nftables.TypeIPAddr)
	add(hosts6Set, nftables.TypeIP6Addr)
	add(lansSet, nftables.TypeIFName)
	add(sealedSet, nftables.TypeIP6Addr)
	add(endsSet, nftables.TypeIP6Addr)
	sets[networksSet].KeyByteOrder = binaryutil.NativeEndian
	sets[lansSet].KeyByteOrder = binaryutil.NativeEndian
	return sets
}

// familyOf gives the one of two sets that has addresses of addr's family.
func familyOf(addr netip.Addr, set4, set6 string) string {
	if addr.Is4() {
		return set4
	}
	return set6
}

// vniKey is a VNI in the type that nft(8) prints as 0x00800001.
func vniKey(vni uint32) []byte { return binary.NativeEndian.AppendUint32(nil, vni) }

func networkElements(vni uint32) []nftables.SetElement {
	return []nftables.SetElement{{Key: vniKey(vni)}}
}

func (f *Filter) senderElements(vni uint32, vteps []netip.Addr) elements {
	all := make(elements)
	for _, vtep := range vteps {
		vtep = vtep.Unmap()
		set := familyOf(vtep, senders4Set, senders6Set)
		all[set] = append(all[set], nftables.SetElement{Key: append(vniKey(vni), vtep.AsSlice()...)})
	}
	return all
}

func hostElements(hosts []netip.Addr) elements {
	all := make(elements)
	for _, host := range hosts {
		host = host.Unmap()
		set := familyOf(host, hosts4Set, hosts6Set)
		all[set] = append(all[set], nftables.SetElement{Key: host.AsSlice()})
	}
	return all
}

func addrElements(addrs []netip.Addr) []nftables.SetElement {
	all := make([]nftables.SetElement, 0, len(addrs))
	for _, addr := range addrs {
		all = append(all, nftables.SetElement{Key: addr.AsSlice()})
	}
	return all
}

func lanElements(lans []string) []nftables.SetElement {
	all := make([]nftables.SetElement, 0, len(lans))
	for _, name := range lans {
		all = append(all, nftables.SetElement{Key: ifname(name)})
	}
	return all
}

func ifname(name string) []byte {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return key
}

// readSenders takes over the elements of a table that is there.
func (f *Filter) readSenders() error {
	tables, err := f.conn.ListTablesOfFamily(table().Family)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return nil
	}
	sets, err := f.conn.GetSets(table())
	if err != nil {
		return fmt.Errorf("list sets of table %s: %w", tableName, err)
	}
	for _, set := range sets {
		found, err := nl.SetElements(f.conn, set)
		if err != nil {
			return err
		}
		for _, element := range found {
			f.takeOver(set.Name, element.Key)
		}
	}
	for _, vteps := range f.senders {
		slices.SortFunc(vteps, netip.Addr.Compare)
	}
	slices.SortFunc(f.hosts, netip.Addr.Compare)
	slices.SortFunc(f.sealed, netip.Addr.Compare)
	slices.SortFunc(f.ends, netip.Addr.Compare)
	return nil
}

func (f *Filter) takeOver(set string, key []byte) {
	const vniLength = 4
	switch set {
	case hosts4Set, hosts6Set:
		if addr, ok := netip.AddrFromSlice(key); ok {
			f.hosts = append(f.hosts, addr)
		}
		return
	case sealedSet:
		if addr, ok := netip.AddrFromSlice(key); ok {
			f.sealed = append(f.sealed, addr)
		}
		return
	case endsSet:
		if addr, ok := netip.AddrFromSlice(key); ok {
			f.ends = append(f.ends, addr)
		}
		return
	case networksSet, senders4Set, senders6Set:
	default:
		return
	}
	if len(key) < vniLength {
		return
	}
	vni := binary.NativeEndian.Uint32(key)
	vteps := f.senders[vni]
	if addr, ok := netip.AddrFromSlice(key[vniLength:]); ok {
		vteps = append(vteps, addr)
	}
	f.senders[vni] = vteps
}
