package gateway

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chain is one of a table's, with its rules.
type chain struct {
	*nftables.Chain
	rules []rule
}

// rule has its meaning as its comment: `nft list table` shows it, and we know by it
// that the rule is there.
type rule struct {
	comment string
	exprs   []expr.Any
}

func (c chain) comments() []string {
	comments := make([]string, 0, len(c.rules))
	for _, rule := range c.rules {
		comments = append(comments, rule.comment)
	}
	return comments
}

// The chains of a table.
const (
	chainFrom        = "from"
	chainTo          = "to"
	chainForward     = "forward"
	chainInput       = "input"
	chainOutput      = "output"
	chainPostrouting = "postrouting"
)

// chainsFor gives the chains of the table, and that of the gateway's own network if it is
// routed. An accept here lets nothing past the chains of others. Those of the hooks are
// before iptables' (priority filter), and at NAT's.
func (t *table) chainsFor(g Gateway) []chain {
	const beforeFilter, sourceNAT = -1, 100
	filter := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return &nftables.Chain{
			Table: t.Table, Name: name, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(beforeFilter),
		}
	}
	chains := []chain{
		{&nftables.Chain{Table: t.Table, Name: chainFrom}, t.from()},
		{&nftables.Chain{Table: t.Table, Name: chainTo}, t.to()},
	}
	if g.Routed {
		chains = append(chains, chain{&nftables.Chain{Table: t.Table, Name: g.Link}, t.own(g)})
	}
	nat := &nftables.Chain{
		Table: t.Table, Name: chainPostrouting, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
		Priority: nftables.ChainPriorityRef(sourceNAT),
	}
	return append(chains,
		chain{filter(chainForward, nftables.ChainHookForward), t.forward()},
		chain{filter(chainOutput, nftables.ChainHookOutput), []rule{
			// A routed network's containers reach those beside them through the gateway, too.
			{"a shorter way, which is none", join(t.link(expr.MetaKeyOIFNAME, setLinks), t.message(t.redirect), drop())},
		}},
		chain{filter(chainInput, nftables.ChainHookInput), t.input()},
		chain{nat, []rule{{"what leaves the network has the host's address", join(
			t.addr(t.source, setMasqueraded, false), t.addr(t.destination, setSubnets, true),
			lookup(expr.MetaKeyOIFNAME, setLinks, true), []expr.Any{&expr.Masq{}},
		)}}},
	)
}

// own is for what a routed network's containers send: to one another it passes, where the
// network is encrypted by its tunnel or on its bridge alone.
func (t *table) own(g Gateway) (rules []rule) {
	for _, subnet := range g.Subnets {
		if !t.is(subnet.Addr()) {
			continue
		}
		if g.Through == "" {
			rules = append(rules, rule{"its own network: " + subnet.String(), join(t.within(subnet), accept())})
			continue
		}
		for _, way := range [][2]string{{g.Link, g.Through}, {g.Through, g.Link}, {g.Link, g.Link}} {
			comment := fmt.Sprintf("its own network: %s, from %s to %s", subnet, way[0], way[1])
			rules = append(rules, rule{comment, join(t.within(subnet), isLink(expr.MetaKeyIIFNAME, way[0]), isLink(expr.MetaKeyOIFNAME, way[1]), accept())})
		}
		rules = append(rules, rule{"not encrypted: " + subnet.String(), join(t.within(subnet), drop())})
	}
	return rules
}

func isLink(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(linkKey(name))}}
}

// forward is for all that passes through the host. What a bridge forwards from one port
// to another comes here too, with br_netfilter.
func (t *table) forward() []rule {
	const toThisHost = 0 // PACKET_HOST of linux/if_packet.h
	rules := []rule{{"broadcast and multicast, which a bridge forwards", join([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{toThisHost}},
	}, accept())}}
	if linkLocal := netip.MustParsePrefix("fe80::/10"); t.is(linkLocal.Addr()) {
		rules = append(rules, rule{"on one link, which a bridge forwards", join(t.within(linkLocal), accept())})
	}
	return append(rules,
		rule{"from a container", join(t.link(expr.MetaKeyIIFNAME, setLinks), jump(chainFrom))},
		rule{"to a container", join(t.link(expr.MetaKeyOIFNAME, setLinks), jump(chainTo))})
}

// from is for what containers send through the host.
func (t *table) from() []rule {
	const destinationNAT = 1 << 5 // IPS_DST_NAT
	return []rule{
		{"a sender outside the network", join([]expr.Any{
			&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: make([]byte, 4)},
		}, drop())},
		{"the network's containers on other hosts", t.network()},
		{"a port that this host publishes", join(conntrack(expr.CtKeySTATUS, destinationNAT), accept())},
		{"out of an internal network", join(t.link(expr.MetaKeyIIFNAME, setInside), drop())},
		{"containers of another network", join(t.addr(t.destination, setSubnets, false), drop())},
		{"containers of another network on this host", join([]expr.Any{
			&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(allPrefix)},
		}, drop())},
	}
}

// to is for what comes to containers through the host.
func (t *table) to() []rule {
	const destinationNAT = 1 << 5 // IPS_DST_NAT
	return []rule{
		{"the network's containers on other hosts", t.network()}, // before an answer, which can be forged
		{"an answer", join(established(), accept())},
		{"by a rule of this host's user", join(conntrack(expr.CtKeySTATUS, destinationNAT), accept())},
		{"all else", drop()},
	}
}

// input is for what containers send to this host.
func (t *table) input() []rule {
	const local = unix.RTN_LOCAL
	rules := []rule{
		{"not from a container", join(lookup(expr.MetaKeyIIFNAME, setLinks, true), accept())},
		{"host-access=true", join(t.link(expr.MetaKeyIIFNAME, setOpen), accept())},
		{"an answer", join(established(), accept())},
		{"a ping of the gateway", join([]expr.Any{
			&expr.Fib{Register: 1, FlagDADDR: true, FlagIIF: true, ResultADDRTYPE: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(local)},
		}, t.message(t.echo), accept())},
	}
	for _, kind := range t.discovery {
		rules = append(rules, rule{"neighbour discovery", join(t.message(kind), accept())})
	}
	return append(rules, rule{"all else", drop()})
}

// network leads what a routed network's container sends to the network's chain.
func (t *table) network() []expr.Any {
	return []expr.Any{
		t.payload(t.source),
		&expr.Lookup{SourceRegister: 1, SetName: mapNetworks, IsDestRegSet: true, DestRegister: 0},
	}
}

func (t *table) payload(offset uint32) *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: t.length}
}

// addr matches an address of the header that is in a set, or not.
func (t *table) addr(offset uint32, set string, not bool) []expr.Any {
	return []expr.Any{t.payload(offset), &expr.Lookup{SourceRegister: 1, SetName: set, Invert: not}}
}

func (t *table) link(key expr.MetaKey, set string) []expr.Any { return lookup(key, set, false) }

func lookup(key expr.MetaKey, set string, not bool) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set, Invert: not}}
}

// message matches a type of ICMP.
func (t *table) message(kind byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{t.icmp}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{kind}},
	}
}

func established() []expr.Any {
	return conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// conntrack matches a value that has one of the bits.
func conntrack(key expr.CtKey, bits uint32) []expr.Any {
	const size = 4
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: size,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, size),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, size)},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func jump(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
}

func join(parts ...[]expr.Any) []expr.Any {
	var all []expr.Any
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// within matches a destination in subnet.
func (t *table) within(subnet netip.Prefix) []expr.Any {
	mask := net.CIDRMask(subnet.Bits(), 8*int(t.length))
	return []expr.Any{
		t.payload(t.destination),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: t.length, Mask: mask, Xor: make([]byte, t.length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: subnet.Masked().Addr().AsSlice()},
	}
}
