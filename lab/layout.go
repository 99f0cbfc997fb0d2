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

	storeNumber = 253 // the last part of its addresses
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
	// engine is the version of a Docker host's engine; empty for other machines.
	engine string
}

// layout gives the machines of a lab, the switch first, the hosts last.
func layout(o Options) []spec {
	hostVia := []netip.Addr{lan4(254), lan6("fe")}
	specs := []spec{
		{name: switchName},
		{name: routerName, nics: []nic{
			{"eth0", []netip.Prefix{netip.PrefixFrom(lan4(254), 24), netip.PrefixFrom(lan6("fe"), 64)}},
			{"eth1", []netip.Prefix{netip.MustParsePrefix("203.0.113.254/24"), netip.MustParsePrefix("2001:db8::fe/64")}},
		}},
		{
			name: outsideName,
			nics: []nic{{"eth0", []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8::1/64")}}},
			via:  []netip.Addr{netip.MustParseAddr("203.0.113.254"), netip.MustParseAddr("2001:db8::fe")},
		},
		{name: plainName, nics: onLAN(200), via: hostVia},
	}
	if o.Store == StoreEtcd {
		specs = append(specs, spec{name: storeName, nics: onLAN(storeNumber), via: hostVia})
	}
	for i, version := range o.engines() {
		specs = append(specs, spec{name: hostName(i + 1), nics: onLAN(i + 1), via: hostVia, engine: version})
	}
	return specs
}

func hostName(n int) string { return fmt.Sprint("h", n) }

func lan4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}) }

func lan6(tail string) netip.Addr { return netip.MustParseAddr("fd99::" + tail) }

// onLAN is the one NIC of the n-th machine: 10.99.0.n and fd99::n, with the
// same digits in both.
func onLAN(n int) []nic {
	return []nic{{"eth0", []netip.Prefix{
		netip.PrefixFrom(lan4(n), 24), netip.PrefixFrom(lan6(fmt.Sprint(n)), 64),
	}}}
}

// switchBatch is what `ip -batch` does in the switch's namespace: a bridge, and
// a cable to each machine, whose other end is pushed into that machine. The
// switch's port has the machine's name. The router's second cable goes to outside.
func switchBatch(specs []spec, mtu int, keeper func(machine string) int) string {
	var b strings.Builder
	// Without a querier, snooping would starve multicast listeners in time.
	fmt.Fprintf(&b, "link add name br0 type bridge mcast_snooping 0\nlink set br0 up\n")
	for _, s := range specs {
		if s.name == switchName || s.name == outsideName {
			continue
		}
		fmt.Fprintf(&b, "link add name %s mtu %d type veth peer name eth0 mtu %d netns %d\n", s.name, mtu, mtu, keeper(s.name))
		fmt.Fprintf(&b, "link set %s master br0 up\n", s.name)
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
