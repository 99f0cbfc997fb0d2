package trace

import (
	"fmt"
	"slices"
)

// Kind is what a hop is.
type Kind string

// The hops, from the container to the wire; what a mode has not is left out.
const (
	Container Kind = "container"
	Port      Kind = "port"
	Tunnel    Kind = "tunnel"
	NIC       Kind = "NIC"
	// WireGuard is an encrypted network's last hop: past it nobody can read.
	WireGuard Kind = "WireGuard"
)

// Check is one thing as the records want it, and as the kernel has it.
type Check struct {
	Want string `json:"want"`
	Have string `json:"have"`
}

// Hop is a place that the packet passes.
type Hop struct {
	Host string `json:"host"`
	Kind Kind   `json:"kind"`
	// Name is the container's, or the interface's.
	Name   string  `json:"name"`
	Checks []Check `json:"checks"`
	// Watched says that somebody listened there, Request and Answer what was seen.
	Watched bool `json:"watched"`
	Request bool `json:"request"`
	Answer  bool `json:"answer"`
}

func (h Hop) String() string {
	switch h.Kind {
	case Container:
		return fmt.Sprintf("container %s on host %s", h.Name, h.Host)
	case Port:
		return fmt.Sprintf("the bridge's port %s on host %s", h.Name, h.Host)
	case Tunnel:
		return fmt.Sprintf("the tunnel %s on host %s", h.Name, h.Host)
	case WireGuard:
		return fmt.Sprintf("the WireGuard device %s on host %s", h.Name, h.Host)
	}
	return fmt.Sprintf("the NIC %s of host %s", h.Name, h.Host)
}

// passage is a hop on the way there, or on the way back.
type passage struct {
	Hop
	seen bool
	what string
}

// verdict says in one sentence what became of a probe that was not answered: between which
// two hops it was lost, and what may be the cause. Hops are those of the request, in order.
func verdict(hops []Hop, whole bool) string {
	var there, back []passage
	for _, hop := range hops {
		if hop.Watched {
			there = append(there, passage{hop, hop.Request, "request"})
			back = append(back, passage{hop, hop.Answer, "answer"})
		}
	}
	slices.Reverse(back)
	turn := len(there) // where the answer begins
	way := append(there, back...)
	last := -1
	for i, passage := range way {
		if passage.seen {
			last = i
		}
	}
	switch {
	case last < 0:
		return fmt.Sprintf("The request does not leave %s: it has no route to the address, or nobody answers its question for the address's MAC.", way[0])
	case last == len(way)-1:
		return fmt.Sprintf("The answer came back to %s, and the probe did not get it: the container's own packet filter drops it.", way[last])
	case last == turn-1 && !whole:
		return fmt.Sprintf("The request left by %s, and no answer came there: it was lost on the wire or on the other host, which was not watched.", way[last])
	case last == turn-1 && way[last].Kind == Container:
		return fmt.Sprintf("The request came to %s, which does not answer: its own packet filter drops it, or its address is not the one asked for.", way[last])
	}
	return fmt.Sprintf("The %s passed %s and did not come to %s: %s.", way[last].what, way[last], way[last+1], cause(way[last], way[last+1]))
}

// cause says what loses packets between two hops.
func cause(from, to passage) string {
	switch {
	case from.Kind == NIC && to.Kind == NIC:
		return "it was sent to another address, or a switch or a firewall between the hosts drops it"
	case from.Kind == WireGuard && to.Kind == WireGuard:
		return "a host does not know the other's key or where it is, or a firewall drops WireGuard's UDP port"
	case (from.Kind == NIC || from.Kind == WireGuard) && to.Kind == Tunnel:
		return fmt.Sprintf("a packet filter of host %s drops the tunnel's UDP port, or it comes from an address that is no VTEP of the network", to.Host)
	case from.Kind == Tunnel && (to.Kind == NIC || to.Kind == WireGuard):
		return fmt.Sprintf("host %s has no route to the other VTEP or no FDB entry for the MAC, or its packet filter drops what it sends", to.Host)
	case from.Kind == Port && to.Kind != Tunnel && to.Kind != Container || to.Kind == Port && from.Kind != Tunnel && from.Kind != Container:
		return fmt.Sprintf("host %s has no route, FDB entry or flow that leads on, or its packet filter drops it", to.Host)
	case from.Kind == Container || to.Kind == Container:
		return "the pair of interfaces is down, or a filter on it drops it"
	}
	return "the bridge has the MAC behind another port, or a filter in the network's namespace drops it"
}
