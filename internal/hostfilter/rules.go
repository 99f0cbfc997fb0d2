package hostfilter

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

const tableName = "causeway-tunnels"

func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// The counters of what was dropped.
const (
	strangers = "strangers" // tunnelled by who has no endpoint on the network
	injected  = "injected"  // for a host's tunnel, from a container
	knocked   = "knocked"   // for a port of causeway, from a container
	clear     = "cleartext" // of an encrypted network, and not by WireGuard
)

// priority is before filters of the users' own.
const priority = -10

// install writes the table as a whole, whatever is there, in one transaction; the
// counters go on.
//
//	table inet causeway-tunnels {
//	  chain input { type filter hook input priority -10;
//	    ip6 daddr @sealed iifname != "cw-wg*" counter name cleartext drop
//	    ip6 saddr @ends iifname != "cw-wg*" counter name cleartext drop
//	    udp dport 4789 @th,88,32 & 0x00ffffff @networks jump senders
//	    jump containers
//	  }
//	  chain output { type filter hook output priority -10;
//	    ip6 saddr @sealed oifname != "cw-wg*" counter name cleartext drop
//	  }
//	  chain senders {
//	    @th,88,32 & 0x00ffffff . ip saddr @senders4 return
//	    @th,88,32 & 0x00ffffff . ip6 saddr @senders6 return
//	    counter name strangers drop
//	  }
//	  chain forward { type filter hook forward priority -10;
//	    jump containers
//	  }
//	  chain containers {
//	    iifname "cwg*" ip daddr @hosts4 jump closed
//	    meta iifkind "bridge" iifname != @lans ip daddr @hosts4 jump closed
//	    iifname "cwg*" ip6 daddr @hosts6 jump closed
//	    meta iifkind "bridge" iifname != @lans ip6 daddr @hosts6 jump closed
//	  }
//	  chain closed {
//	    udp dport { 4789, … } counter name injected drop
//	    meta l4proto gre counter name injected drop
//	    tcp dport { 2378, … } counter name knocked drop
//	  }
//	}
func (f *Filter) install() error {
	_ = f.count() // where the table is gone, the last reading is what counts
	f.conn.AddTable(table())
	f.conn.DelTable(table())
	f.conn.AddTable(table())
	sets := f.sets()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		errs = append(errs, f.conn.AddSet(sets[name], nil))
	}
	errs = append(errs, f.all().each(sets, f.conn.SetAddElements))
	for _, name := range counters() {
		f.conn.AddObj(&nftables.NamedObj{Table: table(), Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{Packets: f.drops[name]}})
	}
	errs = append(errs, f.addRules(sets), f.conn.Flush())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write table %s of nf_tables: %w", tableName, err)
	}
	return nil
}

func (f *Filter) addRules(sets map[string]*nftables.Set) error {
	chain := func(name string) *nftables.Chain { return f.conn.AddChain(&nftables.Chain{Name: name, Table: table()}) }
	hooked := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return f.conn.AddChain(&nftables.Chain{
			Name: name, Table: table(), Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(priority),
		})
	}
	senders, closed, containers := chain("senders"), chain("closed"), chain("containers")
	input, forward := hooked("input", nftables.ChainHookInput), hooked("forward", nftables.ChainHookForward)
	output := hooked("output", nftables.ChainHookOutput)
	rule := func(chain *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, part := range parts {
			all = append(all, part...)
		}
		f.conn.AddRule(&nftables.Rule{Table: table(), Chain: chain, Exprs: all})
	}
	tunnels, err := f.portSet(len(sets)+1, f.Tunnels)
	if err != nil {
		return err
	}
	ports, err := f.portSet(len(sets)+2, f.Ports)
	if err != nil {
		return err
	}
	if f.VTEP.Is6() && !f.VTEP.Is4In6() {
		// IPv6 puts fragments together after this hook, unless connections are tracked.
		rule(input, []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}})
	}
	six := families()[1]
	rule(input, six.is(), six.destination(firstRegister), in(sets[sealedSet], firstRegister), notBy(expr.MetaKeyIIFNAME), dropAs(clear))
	rule(input, six.is(), six.source(firstRegister), in(sets[endsSet], firstRegister), notBy(expr.MetaKeyIIFNAME), dropAs(clear))
	rule(output, six.is(), six.source(firstRegister), in(sets[sealedSet], firstRegister), notBy(expr.MetaKeyOIFNAME), dropAs(clear))
	rule(input, protocol(unix.IPPROTO_UDP), destinationPort(f.VXLANPort), vni(firstRegister), in(sets[networksSet], firstRegister), jump(senders))
	rule(input, jump(containers))
	for _, family := range families() {
		rule(senders, family.is(), vni(firstRegister), family.source(firstRegister+1), in(sets[family.senders], firstRegister), verdict(expr.VerdictReturn))
		toHost := slices.Concat(family.is(), family.destination(firstRegister), in(sets[family.hosts], firstRegister), jump(closed))
		rule(containers, fromGateway(), toHost)
		rule(containers, fromBridge(), notIn(sets[lansSet]), toHost)
	}
	rule(senders, dropAs(strangers))
	rule(forward, jump(containers))
	rule(closed, protocol(unix.IPPROTO_UDP), destinationPortIn(tunnels), dropAs(injected))
	rule(closed, protocol(unix.IPPROTO_GRE), dropAs(injected))
	rule(closed, protocol(unix.IPPROTO_TCP), destinationPortIn(ports), dropAs(knocked))
	return nil
}

// portSet adds a set of ports that never changes; its name is the kernel's to complete.
func (f *Filter) portSet(id int, ports []uint16) (*nftables.Set, error) {
	set := &nftables.Set{
		ID: uint32(id), Table: table(), Name: "__set%d", Anonymous: true, Constant: true, KeyType: nftables.TypeInetService,
	}
	all := make([]nftables.SetElement, 0, len(ports))
	for _, port := range ports {
		all = append(all, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(port)})
	}
	return set, f.conn.AddSet(set, all)
}
