package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// table is a plane's table of one family. Its rules (rules.go) are the same for any
// number of gateways, which are elements of its sets: a packet costs the same, and so
// does a gateway that comes or goes.
type table struct {
	*nftables.Table
	family
	ns netns.NsHandle
	// have is what the kernel has; nil when that is to be read.
	have *content
}

// content is what a table has.
type content struct {
	elements map[element]bool
	chains   map[string][]string // the comments of the rules, by chain
}

// element is one of a set's: an interface, or an end of a range of addresses. In the map
// of networks it leads to a chain.
type element struct {
	set, key string // the key in the kernel's octets
	end      bool   // the first address after a range
	chain    string
}

func (e element) compare(other element) int {
	if order := cmp.Compare(e.key, other.key); order != 0 || e.end == other.end {
		return order
	}
	if e.end {
		return -1 // of ranges that touch, one ends before the other begins
	}
	return 1
}

// The sets of a table.
const (
	setLinks       = "links"       // the gateways' interfaces
	setOpen        = "open"        // those by which containers reach the host
	setInside      = "inside"      // those of networks that have no way out
	setSubnets     = "subnets"     // the networks' subnets
	setMasqueraded = "masqueraded" // those of them that are masqueraded
	mapNetworks    = "networks"    // those of routed networks, each with its chain
)

func newTable(ns netns.NsHandle, family family, name string) *table {
	return &table{Table: &nftables.Table{Name: name, Family: family.nft}, family: family, ns: ns}
}

// set describes one of the table's sets.
func (t *table) set(name string) *nftables.Set {
	// The library would number sets by a counter that goroutines share without a lock.
	id := uint32(slices.Index(setNames(), name) + 1)
	set := &nftables.Set{Table: t.Table, ID: id, Name: name, KeyType: t.key, Interval: true}
	switch name {
	case setLinks, setOpen, setInside:
		set.KeyType, set.Interval, set.KeyByteOrder = nftables.TypeIFName, false, binaryutil.NativeEndian
	case mapNetworks:
		set.IsMap, set.DataType = true, nftables.TypeVerdict
	}
	return set
}

func setNames() []string {
	return []string{setLinks, setOpen, setInside, setSubnets, setMasqueraded, mapNetworks}
}

// elementsOf are those of a gateway; none where the network has no subnet of the family.
func (t *table) elementsOf(g Gateway) map[element]bool {
	found := make(map[element]bool)
	subnets := func(set, chain string) {
		for _, subnet := range g.Subnets {
			if !t.is(subnet.Addr()) {
				continue
			}
			found[element{set: set, key: string(subnet.Masked().Addr().AsSlice()), chain: chain}] = true
			if next := last(subnet).Next(); next.IsValid() {
				found[element{set: set, key: string(next.AsSlice()), end: true}] = true
			}
		}
	}
	if subnets(setSubnets, ""); len(found) == 0 {
		return nil
	}
	link := linkKey(g.Link)
	found[element{set: setLinks, key: link}] = true
	if g.HostAccess {
		found[element{set: setOpen, key: link}] = true
	}
	if g.Inside {
		found[element{set: setInside, key: link}] = true
	}
	if g.Masquerade {
		subnets(setMasqueraded, "")
	}
	if g.Routed {
		subnets(mapNetworks, g.Link)
	}
	return found
}

// linkKey is the name as the kernel compares it: IFNAMSIZ octets.
func linkKey(name string) string {
	key := make([]byte, unix.IFNAMSIZ)
	copy(key, name)
	return string(key)
}

// ensure has the table with what the gateway needs, and counts what was missing.
func (t *table) ensure(g Gateway) (changed int, err error) {
	want := t.elementsOf(g)
	if len(want) == 0 {
		return 0, nil
	}
	conn, err := t.open()
	if err != nil {
		return 0, err
	}
	if t.have == nil {
		if t.have, err = t.read(conn); err != nil {
			return 0, err
		}
	}
	chains := t.chainsFor(g)
	chains = slices.DeleteFunc(chains, func(c chain) bool { return slices.Equal(t.have.chains[c.Name], c.comments()) })
	maps.DeleteFunc(want, func(e element, _ bool) bool { return t.have.elements[e] })
	if len(chains)+len(want) == 0 {
		return 0, nil
	}
	have := t.have
	t.have = nil // until it is written
	err = t.write(conn, chains, want)
	if err != nil {
		return 0, fmt.Errorf("write the table %s of nf_tables: %w", t.Name, err)
	}
	for _, chain := range chains {
		have.chains[chain.Name] = chain.comments()
	}
	maps.Copy(have.elements, want)
	t.have = have
	return len(chains) + len(want), nil
}

func (t *table) open() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(t.ns)))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return conn, nil
}

// write adds in one transaction what is missing. Chains are all there before a rule or an
// element leads to one.
func (t *table) write(conn *nftables.Conn, chains []chain, elements map[element]bool) error {
	conn.AddTable(t.Table)
	var errs []error
	for _, name := range setNames() {
		errs = append(errs, conn.AddSet(t.set(name), nil))
	}
	for _, chain := range chains {
		conn.AddChain(chain.Chain)
		conn.FlushChain(chain.Chain)
	}
	for _, chain := range chains {
		for _, rule := range chain.rules {
			conn.AddRule(&nftables.Rule{
				Table: t.Table, Chain: chain.Chain, Exprs: rule.exprs,
				UserData: userdata.AppendString(nil, userdata.TypeComment, rule.comment),
			})
		}
	}
	for name, members := range bySet(elements) {
		errs = append(errs, conn.SetAddElements(t.set(name), members))
	}
	return errors.Join(append(errs, conn.Flush())...)
}

// bySet gives the members of each set. The kernel wants a range's beginning before its end.
func bySet(elements map[element]bool) map[string][]nftables.SetElement {
	sets := make(map[string][]nftables.SetElement)
	for _, e := range slices.SortedFunc(maps.Keys(elements), element.compare) {
		member := nftables.SetElement{Key: []byte(e.key), IntervalEnd: e.end}
		if e.chain != "" {
			member.VerdictData = &expr.Verdict{Kind: expr.VerdictJump, Chain: e.chain}
		}
		sets[e.set] = append(sets[e.set], member)
	}
	return sets
}

// read lists what the table has; an empty content where there is none.
func (t *table) read(conn *nftables.Conn) (*content, error) {
	found := &content{elements: make(map[element]bool), chains: make(map[string][]string)}
	chains, err := conn.ListChainsOfTableFamily(t.nft)
	if err != nil {
		return nil, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name != t.Name {
			continue
		}
		rules, err := conn.GetRules(t.Table, chain)
		if err != nil {
			return nil, fmt.Errorf("list the rules of %s: %w", t.Name, err)
		}
		comments := make([]string, 0, len(rules))
		for _, rule := range rules {
			comment, _ := userdata.GetString(rule.UserData, userdata.TypeComment)
			comments = append(comments, comment)
		}
		found.chains[chain.Name] = comments
	}
	if len(found.chains) == 0 {
		return found, nil // no table, or an empty one
	}
	for _, name := range setNames() {
		members, err := nl.SetElements(conn, t.set(name))
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, member := range members {
			e := element{set: name, key: string(member.Key), end: member.IntervalEnd}
			if name == mapNetworks {
				e.chain = chainOf(member.Val)
			}
			found.elements[e] = true
		}
	}
	return found, nil
}

// chainOf reads the chain of a verdict: the library leaves its attributes as they are.
func chainOf(verdict []byte) string {
	attributes, err := netlink.NewAttributeDecoder(verdict)
	if err != nil {
		return ""
	}
	chain := ""
	for attributes.Next() {
		if attributes.Type() == unix.NFTA_VERDICT_CHAIN {
			chain = attributes.String()
		}
	}
	return chain
}

// prune deletes what none of the gateways needs; where they need nothing, the table.
func (t *table) prune(keep []Gateway) error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	if t.have == nil {
		if t.have, err = t.read(conn); lacksNFT(err) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if len(t.have.chains) == 0 {
		return nil
	}
	gone, chains := maps.Clone(t.have.elements), make(map[string]bool)
	needed := false
	for _, gateway := range keep {
		for e := range t.elementsOf(gateway) {
			needed = true
			delete(gone, e)
		}
		for _, chain := range t.chainsFor(gateway) {
			chains[chain.Name] = true
		}
	}
	if !needed {
		t.have = nil
		conn.DelTable(t.Table)
	} else if err := t.delete(conn, gone, chains); err != nil {
		return err
	}
	if err := conn.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		t.have = nil
		return fmt.Errorf("delete from the table %s of nf_tables: %w", t.Name, err)
	}
	return nil
}

func (t *table) delete(conn *nftables.Conn, gone map[element]bool, kept map[string]bool) error {
	for name, members := range bySet(gone) {
		if err := conn.SetDeleteElements(t.set(name), members); err != nil {
			return err
		}
	}
	for e := range gone {
		delete(t.have.elements, e)
	}
	for name := range t.have.chains {
		if !kept[name] {
			chain := &nftables.Chain{Table: t.Table, Name: name}
			conn.FlushChain(chain)
			conn.DelChain(chain)
			delete(t.have.chains, name)
		}
	}
	return nil
}

// lacksNFT says of an error that the kernel has no nf_tables, and so no rules.
func lacksNFT(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}
