package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// The machines every lab has, beside the hosts.
const (
	switchName  = "switch"
	routerName  = "router"
	outsideName = "outside"
	plainName   = "plain"
	storeName   = "store"

	// The last parts of their addresses.
	plainNumber  = 200
	storeNumber  = 253
	routerNumber = 254
)

// nic is one end of a cable: a machine's interface and its addresses.
type nic struct {
	name  string
	addrs []netip.Prefix
}

// spec is what a machine is to be.
type spec struct {
	name string
	nics []nic
	// via are the default routers.
	via []netip.Addr
	// lan is the one that eth0 is on.
	lan lan
	// engine is the version of a Docker host's engine; empty for other machines.
	engine string
}

// lan is one of the two LANs: 10.99.0.0/24 and fd99::/64, or 10.98.0.0/24 and fd98::/64,
// and the bridge in the switch's namespace that it is.
type lan struct {
	number byte
	bridge string
}

func near() lan { return lan{99, "br0"} }

// far is behind the router.
func far() lan { return lan{98, "br1"} }

// addrs are those of its n-th machine, with the same digits in both.
func (l lan) addrs(n int) []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, l.number, 0, byte(n)}), 24),
		netip.MustParsePrefix(fmt.Sprintf("fd%d::%d/64", l.number, n)),
	}
}

// machine is one with a NIC on the LAN.
func (l lan) machine(name string, n int) spec {
	s := spec{name: name, nics: []nic{{"eth0", l.addrs(n)}}, lan: l}
	for _, router := range l.addrs(routerNumber) {
		s.via = append(s.via, router.Addr())
	}
	return s
}

// layout gives the machines of a lab, the switch first, the hosts last.
func layout(o Options) []spec {
	router := near().machine(routerName, routerNumber)
	router.via = nil
	router.nics = append(router.nics, nic{"eth1", []netip.Prefix{netip.MustParsePrefix("203.0.113.254/24"), netip.MustParsePrefix("2001:db8::fe/64")}})
	if o.Far > 0 {
		router.nics = append(router.nics, nic{"eth2", far().addrs(routerNumber)})
	}
	specs := []spec{
		{name: switchName},
		router,
		{
			name: outsideName,
			nics: []nic{{"eth0", []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8::1/64")}}},
			via:  []netip.Addr{netip.MustParseAddr("203.0.113.254"), netip.MustParseAddr("2001:db8::fe")},
		},
		near().machine(plainName, plainNumber),
	}
	if o.Store == StoreEtcd {
		specs = append(specs, near().machine(storeName, storeNumber))
	}
	for i, version := range o.engines() {
		where := near()
		if i >= o.Hosts-o.Far {
			where = far()
		}
		host := where.machine(hostName(i+1), i+1)
		host.engine = version
		specs = append(specs, host)
	}
	return specs
}

func hostName(n int) string { return fmt.Sprint("h", n) }

// switchBatch is what `ip -batch` does in the switch's namespace: a bridge for each LAN,
// and a cable to each machine, whose other end is pushed into that machine. The switch's
// port has the machine's name. The router has a cable to outside and one to each LAN.
func switchBatch(specs []spec, mtu int, keeper func(machine string) int) string {
	var b strings.Builder
	addBridge := func(l lan) {
		// Without a querier, snooping would starve multicast listeners in time.
		fmt.Fprintf(&b, "link add name %s type bridge mcast_snooping 0\nlink set %s up\n", l.bridge, l.bridge)
	}
	addCable := func(l lan, port, machine, link string) {
		fmt.Fprintf(&b, "link add name %s mtu %d type veth peer name %s mtu %d netns %d\n", port, mtu, link, mtu, keeper(machine))
		fmt.Fprintf(&b, "link set %s master %s up\n", port, l.bridge)
	}
	addBridge(near())
	for _, s := range specs {
		switch {
		case s.name == switchName || s.name == outsideName:
			continue
		case s.name == routerName && len(s.nics) > 2:
			addBridge(far())
			addCable(far(), "router2", s.name, s.nics[2].name)
		}
		addCable(s.lan, s.name, s.name, s.nics[0].name)
	}
	fmt.Fprintf(&b, "link add name tmp0 mtu %d type veth peer name eth1 mtu %d netns %d\n", mtu, mtu, keeper(routerName))
	fmt.Fprintf(&b, "link set tmp0 name eth0 netns %d\n", keeper(outsideName))
	return b.String()
}

// machineBatch is what `ip -batch` does in a machine's namespace.
func machineBatch(s spec) string {
	var b strings.Builder
	for _, nic := range s.nics {
		for _, addr := range nic.addrs {
			fmt.Fprintf(&b, "addr replace %s dev %s", addr, nic.name)
			if addr.Addr().Is6() {
				b.WriteString(" nodad") // usable at once
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "link set %s up\n", nic.name)
	}
	for _, via := range s.via {
		fmt.Fprintf(&b, "route replace default via %s\n", via)
	}
	return b.String()
}
