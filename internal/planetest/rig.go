package planetest

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Plane is what the suite tests.
type Plane = fabric.Dataplane

// Host is a network namespace in place of a machine. Its NIC is eth0.
type Host struct {
	Name string
	VTEP netip.Addr
	NS   netns.NsHandle
	// Dir is an empty folder of this host's own.
	Dir    string
	Plane  Plane
	handle *nl.Handle
}

// Rig is a few hosts on one switch, and the records that they all see.
type Rig struct {
	t      *testing.T
	config Config
	Hosts  []*Host
	state  fabric.State
	wire   *nl.Handle // the switch's namespace
}

const nicMTU = 1500

// NewRig makes count hosts that reach one another by their VTEP addresses. The
// test's end takes all of it away.
func NewRig(t *testing.T, config Config, count int) *Rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	rig := &Rig{t: t, config: config, wire: newNamespace(t), state: fabric.State{
		Hosts:     map[string]fabric.Host{},
		Networks:  map[string]fabric.Network{},
		Endpoints: map[string]map[string]fabric.Endpoint{},
		Attached:  map[string]bool{},
	}}
	bridge := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	bridge.Name = "switch"
	must(t, rig.wire.LinkAdd(bridge))
	must(t, rig.wire.LinkSetUp(bridge))
	for number := 1; number <= count; number++ {
		rig.addHost(number, bridge.Index)
	}
	if config.Encrypted {
		for number, host := range rig.Hosts {
			rig.SetEnds(host, fabric.Ends{WireGuard: Key(byte(number + 1))})
		}
	}
	for _, host := range rig.Hosts {
		host.Plane = config.New(t, host)
		t.Cleanup(func() { closePlane(t, host.Plane) })
	}
	return rig
}

// Two is a rig of two hosts with a container each on one network, 2 and 3.
func Two(t *testing.T, config Config) (rig *Rig, network fabric.Network, a, b *Container) {
	t.Helper()
	rig = NewRig(t, config, 2)
	network = rig.Network(1)
	return rig, network, rig.Start(rig.Hosts[0], network, 2), rig.Start(rig.Hosts[1], network, 3)
}

func (r *Rig) addHost(number, bridge int) {
	t := r.t
	t.Helper()
	handle := newNamespace(t)
	vtep := r.config.VTEP
	for range number {
		vtep = vtep.Next()
	}
	host := &Host{Name: fmt.Sprintf("host%d", number), VTEP: vtep, NS: handle.NS(), Dir: t.TempDir(), handle: handle}
	nic := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "eth0", PeerNamespace: netlink.NsFd(host.NS)}
	nic.Name, nic.MTU, nic.MasterIndex = host.Name, nicMTU, bridge
	must(t, r.wire.LinkAdd(nic))
	must(t, r.wire.LinkSetUp(nic))
	takeUp(t, handle, "lo")
	takeUp(t, handle, "eth0")
	setAddress(t, handle, "eth0", netip.PrefixFrom(vtep, vtep.BitLen()-8))
	r.Hosts = append(r.Hosts, host)
	r.state.Hosts[host.Name] = fabric.Host{Name: host.Name, VTEP: vtep, MTU: nicMTU}
}

// Restart gives a host a new Plane in the old one's place, as a new process would.
func (r *Rig) Restart(host *Host) {
	r.t.Helper()
	closePlane(r.t, host.Plane)
	host.Plane = r.config.New(r.t, host)
	r.Apply(host)
}

func closePlane(t *testing.T, plane Plane) {
	if closer, ok := plane.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Network records the network of that number; all have the same subnets, unless the
// mode gives each its own.
func (r *Rig) Network(number int) fabric.Network {
	network := r.config.Network(number)
	network.ID, network.Mode, network.Encrypted = fmt.Sprintf("network-%d", number), r.config.Mode, r.config.Encrypted
	if network.Subnets == nil {
		network.Subnets = []fabric.Subnet{{Prefix: subnet4, Gateway: gateway4}, {Prefix: subnet6, Gateway: gateway6}}
	}
	r.state.Networks[network.ID] = network
	r.state.Endpoints[network.ID] = map[string]fabric.Endpoint{}
	r.state.Attached[network.ID] = true
	return network
}

// Segment is the network as that host must have it.
func (r *Rig) Segment(host *Host, network fabric.Network) fabric.Segment {
	for _, segment := range fabric.Plan(r.state, host.Name) {
		if segment.Network.ID == network.ID {
			return segment
		}
	}
	return fabric.Segment{Network: network, VTEP: host.VTEP}
}

// Apply has the hosts apply what is recorded; without hosts, all of them. It
// returns how many entries they repaired.
func (r *Rig) Apply(hosts ...*Host) int {
	r.t.Helper()
	if len(hosts) == 0 {
		hosts = r.Hosts
	}
	all := 0
	for _, host := range hosts {
		for _, segment := range fabric.Plan(r.state, host.Name) {
			repaired, err := host.Plane.Apply(r.t.Context(), segment)
			if err != nil {
				r.t.Fatalf("%s: %v", host.Name, err)
			}
			all += repaired
		}
	}
	return all
}

// Prune has the hosts delete what is not recorded.
func (r *Rig) Prune() {
	r.t.Helper()
	for _, host := range r.Hosts {
		if err := host.Plane.Prune(r.t.Context(), fabric.Plan(r.state, host.Name)); err != nil {
			r.t.Fatalf("%s: %v", host.Name, err)
		}
	}
}

// Forget takes an endpoint out of the records.
func (r *Rig) Forget(endpoint fabric.Endpoint) {
	delete(r.state.Endpoints[endpoint.Network], endpoint.ID)
}

// text is what the kernel says of all that the planes made.
func (r *Rig) text() string {
	r.t.Helper()
	var all strings.Builder
	for _, host := range r.Hosts {
		for _, id := range slices.Sorted(maps.Keys(r.state.Networks)) {
			fmt.Fprintf(&all, "%s %s\n%s", host.Name, id, r.config.Text(r.t, host, r.Segment(host, r.state.Networks[id])))
		}
	}
	return all.String()
}
