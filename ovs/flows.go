package ovs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// Cookies tell our flows from others', and one network's from another's.
const (
	cookieOurs = 0xca05e3a1_00000000
	cookieMask = 0xffffffff_00000000
)

// The tables of the pipeline, in a frame's order.
const (
	tableClassify   = 0
	tableMAC        = 10 // these keep a container to what it may send: ports.go has their flows
	tableKind       = 11
	tableSource     = 12
	tableChatter    = 13
	tableBroadcasts = 14
	tableRate       = 15
	tableNeighbours = 20
	tableNDAnswer   = 25
	tableLocal      = 30
	tableRemote     = 40
	tableFlood      = 50
)

// staticFlows are those that serve every network.
func staticFlows() []vswitch.Flow {
	w := writer{cookie: cookieOurs}
	w.everyPort()
	w.add(tableNeighbours, 50, "arp", "drop")
	// Router and neighbour solicitations and advertisements, and redirects (RFC 4861 §4).
	for kind := 133; kind <= 137; kind++ {
		w.add(tableNeighbours, 50, fmt.Sprintf("icmp6,icmp_type=%d", kind), "drop")
	}
	w.add(tableNeighbours, 0, "", to(tableLocal))
	w.add(tableNDAnswer, 100, "icmp6,icmp_type=136", "move:NXM_OF_ETH_SRC[]->NXM_NX_ND_TLL[],IN_PORT")
	w.add(tableLocal, 50, "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", to(tableFlood))
	w.add(tableLocal, 10, "reg1=0", to(tableRemote))
	return w.flows
}

// writer gathers the flows of one network.
type writer struct {
	cookie  uint64
	network fabric.Network
	vni     uint32
	tunnel  int // the number of the tunnel port
	flows   []vswitch.Flow
}

// done returns the flows, sorted and one for each key: of two endpoints that share
// a MAC or an address the first one counts, a local one before a remote one.
func (w *writer) done() []vswitch.Flow {
	flows := vswitch.Unique(w.flows)
	slices.SortFunc(flows, vswitch.CompareFlows)
	return flows
}

// sources lets in what the VTEPs send. Of an encrypted network that is what its device
// brings, whichever they are.
func (w *writer) sources(vteps []netip.Addr) {
	if w.network.Encrypted { // the host filter knows them
		w.add(tableClassify, 100, fmt.Sprintf("in_port=%d", w.tunnel), w.entered(tableLocal))
		return
	}
	for _, vtep := range vteps {
		w.add(tableClassify, 100, fmt.Sprintf("tun_id=%#x,%s=%s,in_port=%d", w.vni, tunnelField(vtep, "src"), vtep, w.tunnel), w.entered(tableLocal))
	}
}

// entered notes the network of a frame that comes from a tunnel or the gateway: reg1 keeps
// it from leaving through a tunnel.
func (w *writer) entered(next int) string {
	return fmt.Sprintf("set_field:%#x->reg0,set_field:0x1->reg1,%s", w.vni, to(next))
}

// places sends to endpoints, and answers for them.
func (w *writer) places(places []place) {
	for _, at := range places {
		w.answer(*at.Endpoint)
		if at.port == 0 {
			w.add(tableRemote, 100, w.at(at.MAC), w.send(at.vtep))
			continue
		}
		if gateway.IsEndpoint(*at.Endpoint) {
			w.gateway(*at.Endpoint, at.port)
			continue
		}
		w.container(*at.Endpoint, at.port)
		w.add(tableLocal, 100, w.at(at.MAC), w.limitedOutput(at.port))
	}
}

func (w *writer) add(table, priority int, match, actions string) {
	w.flows = append(w.flows, vswitch.Flow{Cookie: w.cookie, Table: table, Priority: priority, Match: match, Actions: actions})
}

// answer turns a question for e's address into its answer, and sends it back.
// Open vSwitch lets a solicitation become an advertisement, yet takes the
// target's link address only in a table that matches one: hence table 25.
func (w *writer) answer(e fabric.Endpoint) {
	const solicitedOverride = 0x60000000 // RFC 4861 §4.4
	for _, addr := range addresses(e) {
		if addr.Is6() {
			w.add(tableNeighbours, 100, fmt.Sprintf("icmp6,reg0=%#x,icmp_type=135,nd_target=%s", w.vni, addr), strings.Join([]string{
				"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", fmt.Sprintf("set_field:%s->eth_src", e.MAC),
				"move:NXM_NX_IPV6_SRC[]->NXM_NX_IPV6_DST[]", fmt.Sprintf("set_field:%s->ipv6_src", addr),
				fmt.Sprintf("set_field:%d->nd_reserved", solicitedOverride), "set_field:2->nd_options_type",
				fmt.Sprintf("set_field:%s->nd_sll", e.MAC), "set_field:136->icmpv6_type", to(tableNDAnswer),
			}, ","))
			continue
		}
		w.add(tableNeighbours, 100, fmt.Sprintf("arp,reg0=%#x,arp_tpa=%s,arp_op=1", w.vni, addr), strings.Join([]string{
			"move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]", fmt.Sprintf("set_field:%s->eth_src", e.MAC), "set_field:2->arp_op",
			"move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[]", fmt.Sprintf("set_field:%s->arp_sha", e.MAC),
			"move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[]", fmt.Sprintf("set_field:%s->arp_spa", addr), "IN_PORT",
		}, ","))
	}
}

// flood serves broadcast and multicast. The switch itself never sends a frame
// back to the port that it came from.
func (w *writer) flood(local []place, vteps int) {
	var ports, everywhere []string
	for _, at := range local {
		if !gateway.IsEndpoint(*at.Endpoint) { // the host takes no part
			ports = append(ports, output(at.port))
		}
	}
	everywhere = slices.Clone(ports)
	switch {
	case w.network.Encrypted: // its device sends to each VTEP
		everywhere = append(everywhere, output(w.tunnel))
	case vteps > 0:
		everywhere = append(everywhere, fmt.Sprintf("set_field:%#x->tun_id", w.vni))
		for _, id := range groupIDs(w.vni, vteps) {
			everywhere = append(everywhere, fmt.Sprintf("group:%d", id))
		}
	}
	for fromTunnel, outputs := range [][]string{everywhere, ports} {
		actions := "drop"
		if len(outputs) > 0 {
			actions = strings.Join(outputs, ",")
		}
		// A register prints zero without 0x.
		w.add(tableFlood, 100, fmt.Sprintf("reg0=%#x,reg1=%s", w.vni, []string{"0", "0x1"}[fromTunnel]), actions)
	}
}

func (w *writer) at(mac fabric.MAC) string {
	return fmt.Sprintf("reg0=%#x,dl_dst=%s", w.vni, mac)
}

func (w *writer) send(vtep netip.Addr) string {
	if w.network.Encrypted {
		return output(w.tunnel)
	}
	return fmt.Sprintf("set_field:%#x->tun_id,set_field:%s->%s,%s", w.vni, vtep, tunnelField(vtep, "dst"), output(w.tunnel))
}

func to(table int) string { return fmt.Sprintf("goto_table:%d", table) }

func output(port int) string { return fmt.Sprintf("output:%d", port) }

func tunnelField(vtep netip.Addr, end string) string {
	if vtep.Is6() {
		return "tun_ipv6_" + end
	}
	return "tun_" + end
}

func cookieOf(network fabric.Network) uint64 { return cookieOurs | uint64(network.VNI) }

// addresses are all that e answers for: those of its record, and where one of
// them is IPv6 the link-local address that its MAC makes (RFC 4291, appendix A).
func addresses(e fabric.Endpoint) []netip.Addr {
	var addrs []netip.Addr
	six := false
	for _, prefix := range e.Addrs {
		addrs = append(addrs, prefix.Addr().Unmap())
		six = six || addrs[len(addrs)-1].Is6()
	}
	if six {
		addrs = append(addrs, e.MAC.LinkLocal())
	}
	return addrs
}
