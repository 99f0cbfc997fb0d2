package ovs

import (
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/portfilter"
)

// denial is what no container may send. Each port has a flow of its own for it, whose
// counter tells how often its container tried.
type denial struct {
	table, priority int
	kind, match     string // before and after in_port
	reason          string
}

// denials are the drops of the tables MAC, kind and source.
func denials() []denial {
	return []denial{
		{tableMAC, 50, "", "", portfilter.SpoofedMAC},
		{tableKind, 200, "", "dl_dst=01:80:c2:00:00:00/ff:ff:ff:ff:ff:f0", portfilter.BridgeProtocol}, // IEEE 802.1D §7.12.6
		{tableKind, 200, "", "vlan_tci=0x1000/0x1000", portfilter.VLANTag},
		{tableKind, 200, "udp", "tp_src=67,tp_dst=68", portfilter.DHCPAnswer},
		{tableKind, 200, "udp6", "tp_src=547,tp_dst=546", portfilter.DHCPAnswer},
		{tableKind, 200, "icmp6", "icmp_type=134", portfilter.RouterMessage},
		{tableKind, 200, "icmp6", "icmp_type=137", portfilter.RouterMessage},
		{tableKind, 50, "arp", "", portfilter.SpoofedARP},
		{tableKind, 50, "icmp6", "icmp_type=135", portfilter.SpoofedNeighbour},
		{tableKind, 50, "icmp6", "icmp_type=136", portfilter.SpoofedNeighbour},
		{tableSource, 50, "arp", "", portfilter.SpoofedARP},
		{tableSource, 50, "ip", "", portfilter.SpoofedIPv4},
		{tableSource, 50, "ipv6", "", portfilter.SpoofedIPv6},
		{tableSource, 50, "", "dl_type=0x05ff", portfilter.BridgeProtocol}, // no EtherType but a length
		{tableSource, 0, "", "", portfilter.OtherProtocol},
	}
}

// matchAt is a match of what comes from a port, as the switch writes it.
func matchAt(kind string, number int, match string) string {
	text := fmt.Sprintf("in_port=%d", number)
	if kind != "" {
		text = kind + "," + text
	}
	if match != "" {
		text += "," + match
	}
	return text
}

// everyPort is what the tables of the ports have for all containers.
func (w *writer) everyPort() {
	w.add(tableKind, 100, "icmp6,icmp_type=135,nd_sll=00:00:00:00:00:00", to(tableSource)) // without the option
	w.add(tableKind, 0, "", to(tableSource))
	// What a container says of groups, or asks of routers, before it has an address is of
	// no use to anybody (RFC 3810 §5.2.13), and no fault of its either: it is not counted.
	for _, kind := range []int{131, 132, 133, 143} {
		w.add(tableSource, 100, fmt.Sprintf("icmp6,ipv6_src=::,icmp_type=%d", kind), "drop")
	}
	chatter := []string{"arp", "dl_dst=ff:ff:ff:ff:ff:ff"}
	for kind := 133; kind <= 137; kind++ {
		chatter = append(chatter, fmt.Sprintf("icmp6,icmp_type=%d", kind))
	}
	for _, match := range chatter {
		w.add(tableChatter, 50, match, to(tableBroadcasts))
	}
	w.add(tableChatter, 0, "", to(tableRate))
	w.add(tableBroadcasts, 0, "", to(tableRate))
	w.add(tableRate, 0, "", to(tableNeighbours))
}

// container lets a container's frames in: its own, and nobody else's.
func (w *writer) container(e fabric.Endpoint, number int) {
	w.add(tableClassify, 100, matchAt("", number, ""), fmt.Sprintf("set_field:%#x->reg0,%s", w.vni, to(tableMAC)))
	rule := portfilter.RuleOf(w.network, e)
	if rule.Anyone {
		w.add(tableMAC, 100, matchAt("", number, ""), to(tableChatter))
	} else {
		w.guard(rule, number)
	}
	if rule.Broadcasts > 0 {
		w.add(tableBroadcasts, 100, matchAt("", number, ""), through(broadcastMeter(number))+to(tableRate))
	}
	if rule.Rate > 0 {
		w.add(tableRate, 100, matchAt("", number, ""), through(fromMeter(number))+to(tableNeighbours))
	}
	for _, addr := range addresses(e) { // announcements
		if addr.Is6() {
			w.add(tableNeighbours, 110, matchAt("icmp6", number, fmt.Sprintf("icmp_type=135,nd_target=%s", addr)), "drop")
		} else {
			w.add(tableNeighbours, 110, matchAt("arp", number, fmt.Sprintf("arp_tpa=%s", addr)), "drop")
		}
	}
}

// guard lets pass what the rule allows, and drops all else by reason.
func (w *writer) guard(rule portfilter.Rule, number int) {
	allow := func(table int, kind, match string, next int) {
		w.add(table, 100, matchAt(kind, number, match), to(next))
	}
	macs := []string{rule.MAC.String()}
	addrs := append(rule.Addrs[:len(rule.Addrs):len(rule.Addrs)], rule.Floats...)
	if len(rule.Floats) > 0 {
		macs = append(macs, virtualMACs()...)
		for _, link := range []string{"fe80::200:5eff:fe00:100/120", "fe80::200:5eff:fe00:200/120"} { // of those MACs
			allow(tableSource, "ipv6", "ipv6_src="+link, tableChatter)
		}
	}
	for _, mac := range macs {
		allow(tableMAC, "", "dl_src="+mac, tableKind)
		allow(tableKind, "arp", "arp_sha="+mac, tableSource)
		allow(tableKind, "icmp6", "icmp_type=135,nd_sll="+mac, tableSource)
	}
	// A probe has no sender address yet (RFC 5227 §2.1.1).
	allow(tableSource, "arp", "arp_spa=0.0.0.0,arp_op=1", tableChatter)
	for _, addr := range addrs {
		if addr.Is4() {
			allow(tableSource, "arp", "arp_spa="+addr.String(), tableChatter)
			allow(tableSource, "ip", "nw_src="+addr.String(), tableChatter)
			continue
		}
		for _, mac := range append(macs, "00:00:00:00:00:00") {
			allow(tableKind, "icmp6", fmt.Sprintf("icmp_type=136,nd_target=%s,nd_tll=%s", addr, mac), tableSource)
		}
		allow(tableSource, "ipv6", "ipv6_src="+addr.String(), tableChatter)
		allow(tableSource, "icmp6", fmt.Sprintf("ipv6_src=::,icmp_type=135,nd_target=%s", addr), tableChatter)
	}
	for _, d := range denials() {
		w.add(d.table, d.priority, matchAt(d.kind, number, d.match), "drop")
	}
}

// virtualMACs are those of virtual routers (RFC 5798 §7.3).
func virtualMACs() []string {
	return []string{"00:00:5e:00:01:00/ff:ff:ff:ff:ff:00", "00:00:5e:00:02:00/ff:ff:ff:ff:ff:00"}
}

// unknown floods, on a network where addresses or MACs may be that no record has, the
// questions for them, and what goes to them.
func (w *writer) unknown() {
	anyone := w.network.Spoofing
	if !anyone && len(w.network.Allow) == 0 {
		return
	}
	network := fmt.Sprintf("reg0=%#x", w.vni)
	w.add(tableNeighbours, 60, "arp,"+network, to(tableLocal))
	for kind := 133; kind <= 137; kind++ {
		if anyone || kind == 135 || kind == 136 {
			w.add(tableNeighbours, 60, fmt.Sprintf("icmp6,%s,icmp_type=%d", network, kind), to(tableLocal))
		}
	}
	if !anyone {
		for _, mac := range virtualMACs() {
			w.add(tableLocal, 60, network+",dl_dst="+mac, to(tableFlood))
		}
		return
	}
	w.add(tableLocal, 20, network+",reg1=0x1", to(tableFlood))
	w.add(tableRemote, 10, network, to(tableFlood))
}
