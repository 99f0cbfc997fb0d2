package ovs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/jsonrpc"
	"github.com/causeway-net/causeway/internal/nl"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// How long Apply waits for the MACs of new next hops. A host that is up answers
// within milliseconds; one that is not gets its entry when it does.
const resolveTimeout = 250 * time.Millisecond

// neighbours are the next hops of the tunnels in the tables of the userspace
// datapath, which resolves one only when a frame is to be sent there, and drops
// that frame. The MACs are the kernel's: the host's stack is on the same bridge.
// Any goroutine may use it.
type neighbours struct {
	links   links
	vswitch *vswitch.Switch

	mu    sync.Mutex
	vteps map[string][]netip.Addr // by network
	hops  map[netip.Addr]hop      // by VTEP
	set   map[entry]fabric.MAC    // as last seen to be right
}

func newNeighbours(p *Plane) *neighbours {
	return &neighbours{
		links: p.links, vswitch: p.vswitch,
		vteps: map[string][]netip.Addr{}, hops: map[netip.Addr]hop{}, set: map[entry]fabric.MAC{},
	}
}

// resolve has the switch know the next hops of a network's tunnels. It reads the
// switch's table where there are new VTEPs or the network is stale.
func (p *Plane) resolve(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	if p.have.datapath != "netdev" || segment.Network.Encrypted {
		return 0, nil
	}
	id, wait := segment.Network.ID, time.Duration(0)
	last, known := p.known[id]
	switch fresh := p.neighbours.want(id, segment.Flood); {
	case fresh:
		wait = resolveTimeout
	case known && !last.stale:
		return 0, nil
	}
	return p.neighbours.ensure(ctx, wait)
}

// hop is where a tunnel's packets go first.
type hop struct {
	entry
	link  int  // its index
	stale bool // the route may be another by now
}

// entry is what the switch has one MAC for.
type entry struct {
	bridge string
	addr   netip.Addr
}

// want notes the VTEPs that a network needs, and says whether there are new ones.
func (n *neighbours) want(network string, vteps []netip.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(vteps) == 0 {
		delete(n.vteps, network)
		return false
	}
	n.vteps[network] = vteps
	for _, vtep := range vteps {
		if _, known := n.hops[vtep]; !known {
			return true
		}
	}
	return false
}

// keep forgets the networks that are not kept.
func (n *neighbours) keep(networks map[string]bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id := range n.vteps {
		if !networks[id] {
			delete(n.vteps, id)
		}
	}
}

// reroute has the routes looked up again, and forgets unwanted ones.
func (n *neighbours) reroute() {
	n.mu.Lock()
	defer n.mu.Unlock()
	hops := make(map[netip.Addr]hop, len(n.hops))
	for _, vteps := range n.vteps {
		for _, vtep := range vteps {
			if hop, known := n.hops[vtep]; known {
				hop.stale = true
				hops[vtep] = hop
			}
		}
	}
	n.hops = hops
}

// ensure has the switch know the wanted neighbours, as far as the kernel does, and
// counts those that it had known before. It waits for the kernel that long.
func (n *neighbours) ensure(ctx context.Context, wait time.Duration) (repaired int, err error) {
	if n.vswitch.Unresponsive() {
		return 0, vswitch.ErrUnresponsive
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.vteps) == 0 {
		return 0, nil
	}
	repaired, err = n.update(ctx, wait)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n.vswitch.TimedOut()
		return repaired, vswitch.ErrUnresponsive
	}
	return repaired, err
}

func (n *neighbours) update(ctx context.Context, wait time.Duration) (repaired int, err error) {
	if err := n.route(ctx); err != nil {
		return 0, err
	}
	conn, err := n.vswitch.Control(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for pause := time.Millisecond; ; pause *= 2 {
		count, missing, err := n.compare(conn)
		repaired += count
		if err != nil || missing == 0 {
			return repaired, err
		}
		select {
		case <-time.After(pause):
		case <-deadline.C:
			return repaired, nil
		case <-ctx.Done():
			return repaired, ctx.Err()
		}
	}
}

// route looks up the next hops that are not known yet.
func (n *neighbours) route(ctx context.Context) error {
	bridges := make(map[int]string) // by index of the device
	for _, vteps := range n.vteps {
		for _, vtep := range vteps {
			if hop, known := n.hops[vtep]; known && !hop.stale {
				continue
			}
			routes, err := n.links.RouteGet(nl.IP(vtep))
			if err != nil || len(routes) == 0 {
				n.hops[vtep] = hop{stale: true} // no route now
				continue
			}
			route := routes[0]
			bridge, known := bridges[route.LinkIndex]
			if !known {
				link, err := n.links.LinkByIndex(route.LinkIndex)
				if err != nil {
					return fmt.Errorf("link of the route to %s: %w", vtep, err)
				}
				bridge = n.vswitch.BridgeOf(ctx, link.Attrs().Name)
				bridges[route.LinkIndex] = bridge
			}
			next := vtep.Unmap()
			if gateway := nl.Addr(route.Gw); gateway.IsValid() {
				next = gateway
			}
			n.hops[vtep] = hop{entry{bridge, next}, route.LinkIndex, false}
		}
	}
	return nil
}

// compare reads the switch's table once, sets what is missing or wrong there, and
// asks the kernel to resolve what it does not know either.
func (n *neighbours) compare(conn *jsonrpc.Conn) (repaired, missing int, err error) {
	have, err := readNeighbours(conn)
	if err != nil {
		return 0, 0, err
	}
	kernel := make(map[int]map[netip.Addr]netlink.Neigh) // by link
	for _, hop := range n.wanted() {
		mac, there := have[hop.entry]
		before, known := n.set[hop.entry]
		if there && mac == before {
			continue
		}
		if kernel[hop.link] == nil {
			if kernel[hop.link], err = n.links.neighbours(hop.link); err != nil {
				return repaired, missing, err
			}
		}
		right, resolved := macOf(kernel[hop.link][hop.addr])
		switch {
		case !resolved:
			if !there {
				missing++
			}
			n.links.resolve(hop.link, hop.addr)
			continue
		case mac != right:
			if err := conn.Call(vswitch.CommandTimeout, "tnl/neigh/set", []any{hop.bridge, hop.addr.String(), right.String()}, nil); err != nil {
				return repaired, missing, err
			}
			if known && right == before {
				repaired++
			}
		}
		n.set[hop.entry] = right
	}
	return repaired, missing, nil
}

// wanted returns the next hops, each once.
func (n *neighbours) wanted() map[entry]hop {
	hops := make(map[entry]hop)
	for _, vteps := range n.vteps {
		for _, vtep := range vteps {
			if hop := n.hops[vtep]; hop.bridge != "" {
				hops[hop.entry] = hop
			}
		}
	}
	return hops
}

func readNeighbours(conn *jsonrpc.Conn) (map[entry]fabric.MAC, error) {
	var text string
	if err := conn.Call(vswitch.CommandTimeout, "tnl/neigh/show", nil, &text); err != nil {
		return nil, err
	}
	table := make(map[entry]fabric.MAC)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue // the headline
		}
		mac, err := fabric.ParseMAC(fields[1])
		if err != nil {
			return nil, fmt.Errorf("tnl/neigh/show: %w", err)
		}
		table[entry{fields[2], addr.Unmap()}] = mac
	}
	return table, nil
}

// neighbours reads the kernel's table of a link.
func (l links) neighbours(link int) (map[netip.Addr]netlink.Neigh, error) {
	list, err := l.NeighList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	table := make(map[netip.Addr]netlink.Neigh, len(list))
	for _, neighbour := range list {
		table[nl.Addr(neighbour.IP)] = neighbour
	}
	return table, nil
}

// macOf returns a neighbour's MAC, if it was resolved.
func macOf(neighbour netlink.Neigh) (fabric.MAC, bool) {
	const resolved = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	if neighbour.State&resolved == 0 || len(neighbour.HardwareAddr) != len(fabric.MAC{}) {
		return fabric.MAC{}, false
	}
	return fabric.MAC(neighbour.HardwareAddr), true
}

// resolve has the kernel ask for the MAC of addr, as a packet to it would. It is
// asked again while there is no answer.
func (l links) resolve(link int, addr netip.Addr) {
	_ = l.NeighSet(&netlink.Neigh{LinkIndex: link, IP: nl.IP(addr), Flags: netlink.NTF_USE})
}
