// Package fabric has the values that all packages share, and [Plan], which turns
// the cluster's records into what one host must apply. Records that cannot be
// planned with are found by sane.go.
//
// A record's path: a handler of driver writes an Endpoint to the store. Every
// host that has containers on that network sees it, puts it into a State and
// calls Plan. The Segment that comes out goes to the data plane of the network's
// mode, which makes the kernel match it. Nothing here does I/O.
package fabric

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Mode names the data plane that carries a network.
type Mode string

// The modes, as users write them in -o mode=….
const (
	ModeVXLAN    Mode = "vxlan"
	ModeOVS      Mode = "ovs"
	ModeUnderlay Mode = "underlay"
	ModeRouted   Mode = "routed"
)

// HasVNI says that each network of the mode has a VNI of its own.
func (m Mode) HasVNI() bool { return m == ModeVXLAN || m == ModeOVS }

// OptionNetwork is the -o option that attaches Docker's network to the cluster's
// of that name, or to the one whose ID follows NetworkIDPrefix.
const (
	OptionNetwork   = "causeway.network"
	NetworkIDPrefix = "id:"
)

// Host is one Docker engine with its causeway.
type Host struct {
	// Name is the host's key in the records; it never changes.
	Name string `json:"name"`
	// Display is what users are shown after the host was renamed; empty: Name.
	Display string `json:"display,omitempty"`
	// VTEP is the address that tunnels end at.
	VTEP netip.Addr `json:"vtep"`
	// MTU is that of the VTEP's device, in bytes, before any tunnel overhead.
	MTU     int    `json:"mtu"`
	Version string `json:"version,omitempty"`
	// BootID changes with each boot of the host's kernel.
	BootID string `json:"boot_id,omitempty"`
	// Mirror says that the host's networks follow the cluster's by themselves.
	Mirror bool `json:"mirror,omitempty"`
	Ends
	// StoreWish says whether the host is to hold the store of a closed cluster:
	// auto, yes or no; StorePeer is where the other members reach it then. Both are
	// empty with an etcd of one's own.
	StoreWish string `json:"store_wish,omitempty"`
	StorePeer string `json:"store_peer,omitempty"`
}

// Shown is the host's name as users know it.
func (h Host) Shown() string { return cmp.Or(h.Display, h.Name) }

// Network is one cluster-wide network. Each host's Docker knows it under
// another NetworkID; ID is the cluster's own.
type Network struct {
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
	Mode Mode   `json:"mode"`
	// VNI is the 24-bit identifier in the tunnel header (RFC 7348 §5); zero
	// where [Mode.HasVNI] says so.
	VNI     uint32   `json:"vni,omitempty"`
	Subnets []Subnet `json:"subnets"`
	// MTU of the containers' interfaces in bytes; zero means the smallest
	// VTEP device's in the cluster, less the overhead.
	MTU      int  `json:"mtu,omitempty"`
	Internal bool `json:"internal,omitempty"`
	// NoNames says that containers do not find each other by name across hosts.
	NoNames bool `json:"no_names,omitempty"`
	IPv6    bool `json:"ipv6,omitempty"`
	// Encrypted says that the tunnels lead through WireGuard.
	Encrypted bool `json:"encrypted,omitempty"`
	// Swarm says that Docker's swarm brings the network to the hosts; mirrors do not.
	Swarm bool `json:"swarm,omitempty"`
	// Tunnel is the encapsulation of an ovs network: vxlan, geneve or gre.
	Tunnel string `json:"tunnel,omitempty"`
	// Via is how a routed network's packets get to another host.
	Via Via `json:"via,omitempty"`
	// Block is the prefix length of the blocks of IPv4 addresses that hosts take; IPv6
	// ones hold as many, and are 96 longer. Zero is the default.
	Block int `json:"block,omitempty"`
	// Parent, Bridge and VLAN place an underlay network.
	Parent string `json:"parent,omitempty"`
	Bridge string `json:"bridge,omitempty"`
	VLAN   int    `json:"vlan,omitempty"`
	// DockerGateway says that containers have their way out by Docker's own gateway,
	// docker_gwbridge, and none of the network's (-o gateway=docker).
	DockerGateway bool `json:"docker_gateway,omitempty"`
	// NoMasquerade says that packets leave with the containers' own addresses
	// (-o masquerade=false).
	NoMasquerade bool `json:"no_masquerade,omitempty"`
	// HostAccess says that containers reach what their host serves (-o host-access=true).
	HostAccess bool `json:"host_access,omitempty"`
	// NoProbe says that on an underlay network nobody is asked on the wire for an
	// address before a container gets it (-o probe=false).
	NoProbe bool `json:"no_probe,omitempty"`
	// Force says that this host's own engine was asked to use the parent in spite
	// of what speaks against it (-o force=true). It is not in the network's record:
	// what one host's user forces must not be forced on the others.
	Force bool `json:"-"`
	// Allow are addresses that any container may send from, since they float between
	// containers (-o allow=…).
	Allow []netip.Addr `json:"allow,omitempty"`
	// Spoofing says that containers may send with any MAC and address (-o spoofing=allow).
	Spoofing bool `json:"spoofing,omitempty"`
	// BroadcastRate is how many broadcast, ARP and neighbour discovery frames a second
	// a container may send; zero means [DefaultBroadcastRate], less than zero no limit.
	BroadcastRate int `json:"broadcast_rate,omitempty"`
	// Rate is how much a container may send and get, in bits a second; zero for no limit.
	Rate uint64 `json:"rate,omitempty"`
	// Options are the user's -o pairs as given, for the mirrors.
	Options map[string]string `json:"options,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	IPAM    IPAM              `json:"ipam"`
}

// DefaultBroadcastRate is in frames a second. A container that opens connections to a
// thousand neighbours at once is not held up, and one in a loop costs its host little.
const DefaultBroadcastRate = 1000

// Drops counts the frames of a container that were dropped at its port, by reason.
type Drops map[string]uint64

// Label is the name that users know the network by, or else its ID.
func (n Network) Label() string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

// IPAM says how a network's addresses are given out.
type IPAM struct {
	// Driver is the IPAM of the engine where the network was made: "causeway"
	// or "default", Docker's own.
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options,omitempty"`
}

// Subnet is one CIDR of a network.
type Subnet struct {
	// Pool is the key of the pool record that its addresses are claimed in.
	Pool   string       `json:"pool"`
	Prefix netip.Prefix `json:"prefix"`
	// Range is where addresses are picked from (--ip-range); the zero Prefix means all of Prefix.
	Range   netip.Prefix `json:"range,omitzero"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
	// GatewayGiven says that the user chose the gateway: engines show no other.
	GatewayGiven bool                  `json:"gateway_given,omitempty"`
	Aux          map[string]netip.Addr `json:"aux,omitempty"`
}

// Endpoint is one container's place on a network.
type Endpoint struct {
	// ID is Docker's EndpointID, 64 hex digits, new on each start of a container.
	ID      string `json:"id"`
	Network string `json:"network"`
	Host    string `json:"host"`
	MAC     MAC    `json:"mac"`
	// Addrs are the container's addresses with their subnet's prefix length.
	Addrs []netip.Prefix `json:"addrs"`
	// Name is the container's, where known.
	Name string `json:"name,omitempty"`
	// Names are what the container is found by on this network: its name, its
	// short ID and its aliases.
	Names []string `json:"names,omitempty"`
}

// HostsOf names the hosts that have endpoints, sorted.
func HostsOf(endpoints map[string]Endpoint) []string {
	hosts := make(map[string]bool)
	for _, endpoint := range endpoints {
		hosts[endpoint.Host] = true
	}
	return slices.Sorted(maps.Keys(hosts))
}

// Peer is an endpoint on another host, and the VTEP that leads to it.
type Peer struct {
	Endpoint
	VTEP netip.Addr
}

// Segment is one network as one host must apply it.
type Segment struct {
	Network Network
	// VTEP is this host's own tunnel address.
	VTEP netip.Addr
	// MTU is that of the containers' interfaces, in bytes.
	MTU int
	// TunnelMTU is what a routed network's packet may have that is wrapped, in bytes.
	TunnelMTU int
	// Local are this host's endpoints, Remote those of the others, by ID.
	Local  []Endpoint
	Remote []Peer
	// Routes are a routed network's, to other hosts and to what lies in their blocks;
	// by prefix, without duplicates.
	Routes []Route
	// Flood are the VTEPs of the other hosts with endpoints here: each gets one
	// copy of a broadcast or multicast frame. Sorted, without duplicates.
	Flood []netip.Addr
	// Others are ends of these hosts that may deliver, too, though nothing is sent there:
	// while a host's key is rotated. Sorted, without duplicates.
	Others []netip.Addr
}

// Senders are those who may deliver into the network, sorted.
func (s Segment) Senders() []netip.Addr {
	if len(s.Others) == 0 {
		return s.Flood
	}
	all := slices.Concat(s.Flood, s.Others)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}
