package engines

import (
	"fmt"
	"slices"
)

// row is one way to join containers.
type row struct {
	name, what string
	// create are the arguments of docker network create, but for subnet and name; nil:
	// the engine's own network of that name is used.
	create []string
	// kinds are the measures that it has: traffic, starts, reach, causeway.
	kinds []string

	switched bool // in the lab with Open vSwitch
	hosts    bool // there are no containers: the hosts themselves talk
	each     bool // the network is created on each host, with a range of its own
	publish  bool // containers are reached at their host's address
	noFirst  bool // there can be no second network of its kind
	fails    string
}

const (
	traffic  = "traffic"
	starts   = "starts"
	reach    = "reach"
	causeway = "causeway"
)

func (r row) has(kind string) bool { return slices.Contains(r.kinds, kind) }

// rows are all that are compared. One that the engine or this build of causeway does not
// know is left out of a run, with what it says. A row is one line.
func rows() []row {
	all, own := []string{traffic, starts, reach}, []string{traffic, starts, reach, causeway}
	ours := func(options ...string) []string {
		return append([]string{"-d", "causeway", "--ipam-driver", "causeway"}, options...)
	}
	return []row{
		{name: "host", what: "from host to host without containers: the limit", hosts: true, kinds: []string{traffic}},
		{name: "none", what: "`--net=none`: what a start costs without a network", kinds: []string{starts}},
		{name: "bridge", what: "Docker's default bridge; between hosts by a published port", publish: true, kinds: all},
		{name: "user bridge", what: "`-d bridge`, as compose projects have it", create: []string{"-d", "bridge"}, each: true, kinds: []string{starts}},
		{name: "overlay", what: "Docker's overlay, attachable, on a swarm of both hosts", create: []string{"-d", "overlay", "--attachable"}, kinds: all},
		{name: "macvlan", what: "Docker's macvlan on a NIC of its own", create: []string{"-d", "macvlan", "-o", "parent=eth1"}, each: true, noFirst: true, kinds: all},
		{name: "vxlan", what: "causeway, `mode=vxlan`", create: ours(), kinds: own},
		{name: "vxlan internal", what: "the same with `--internal`", create: ours("--internal"), kinds: []string{starts, causeway}},
		{name: "vxlan docker_gwbridge", what: "the same with `-o gateway=docker`", create: ours("-o", "gateway=docker"), kinds: []string{starts, causeway}},
		{name: "vxlan unfiltered", what: "the same without checks of the ports, `-o spoofing=allow -o broadcast-rate=none`", create: ours("-o", "spoofing=allow", "-o", "broadcast-rate=none"), noFirst: true, kinds: []string{traffic}},
		{name: "vxlan encrypted", what: "the same with `-o encrypted=true`, by `wireguard-go`: this kernel has no WireGuard", create: ours("-o", "encrypted=true"), noFirst: true, kinds: []string{traffic}},
		{name: "routed", what: "causeway, `mode=routed`", create: ours("-o", "mode=routed"), kinds: own},
		{name: "underlay", what: "causeway, `mode=underlay` on a NIC of its own", create: ours("-o", "mode=underlay", "-o", "parent=eth2"), noFirst: true, kinds: own},
		{name: "ovs host", what: "from host to host where the NIC is a port of Open vSwitch's datapath in user space: the limit of ovs here", hosts: true, switched: true, kinds: []string{traffic}},
		{name: "ovs", what: "causeway, `mode=ovs`, on that datapath: this kernel has none of its own", create: ours("-o", "mode=ovs"), switched: true, kinds: own},
		{name: "ovs encrypted", what: "the same with `-o encrypted=true`, by `wireguard-go`", create: ours("-o", "mode=ovs", "-o", "encrypted=true"), switched: true, noFirst: true, kinds: []string{traffic}},
	}
}

// IsOurs tells causeway's rows.
func IsOurs(name string) bool {
	return slices.ContainsFunc(rows(), func(r row) bool { return r.name == name && r.create != nil && r.create[1] == "causeway" })
}

// network is the name of the row's network; first that of the one without containers.
func (r row) network(first bool) string {
	if r.create == nil {
		return r.name
	}
	name := "bench-" + dashed(r.name)
	if first {
		name += "-first"
	}
	return name
}

// subnets are the row's own, by its place among all: of its network and of the one
// without containers.
func (r row) subnet(first bool) string {
	at := slices.IndexFunc(rows(), func(other row) bool { return other.name == r.name })
	if first {
		at += 50
	}
	return fmt.Sprintf("10.%d.0.0/16", 101+at)
}

// ranged is the part of the subnet that host n, from 1, gives out of a network that each
// host creates by itself.
func (r row) ranged(first bool, host int) string {
	var base, prefix, bits int
	_, _ = fmt.Sscanf(r.subnet(first), "%d.%d.0.0/%d", &base, &prefix, &bits)
	return fmt.Sprintf("%d.%d.%d.0/24", base, prefix, 10*host)
}
