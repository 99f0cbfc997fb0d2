package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/echo"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/sandbox"
)

// echoes asks containers on the other hosts by ICMP echo requests of a container here, first
// by a small one and then by one as large as containers may send. It is for what the check of
// the tunnels cannot ask: mode=ovs, mode=routed, and containers with IPv6 addresses alone.
func echoes(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	results := make(map[unanswered][]echoRoute)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, trip := range planEchoes(segments) {
		group.Go(func() error {
			came, err := trip.make(ctx, in)
			mu.Lock()
			defer mu.Unlock()
			for _, r := range came {
				results[r.unanswered] = append(results[r.unanswered], r.echoRoute)
			}
			return err
		})
	}
	err = group.Wait()
	var found []Finding
	for _, which := range slices.SortedFunc(maps.Keys(results), unanswered.compare) {
		found = append(found, which.tell(ctx, in, results[which]))
	}
	return found, err
}

// echoRoute is the way to one host, and containers there.
type echoRoute struct {
	host  string // its key
	vtep  netip.Addr
	label string
	size  int // of the largest packet, in bytes
	from  netip.Addr
	to    []netip.Addr
}

// echoTrip is what is asked on one network.
type echoTrip struct {
	network fabric.Network
	from    fabric.Endpoint
	routes  []echoRoute
}

// unanswered is a way in which nothing came back.
type unanswered struct {
	mode   fabric.Mode
	sealed bool // through WireGuard
	narrow bool // small packets are answered
}

func (u unanswered) compare(other unanswered) int {
	return strings.Compare(fmt.Sprint(u), fmt.Sprint(other)) // the mode comes first
}

// planEchoes picks, for each other host and each kind of tunnel to it, a network and
// containers to ask.
func planEchoes(segments []fabric.Segment) (trips []echoTrip) {
	type kind struct {
		mode   fabric.Mode
		tunnel string
		vtep   netip.Addr
	}
	asked := make(map[kind]bool)
	for _, trip := range plan(segments) {
		for _, route := range trip.routes {
			asked[kind{mode: fabric.ModeVXLAN, vtep: route.vtep}] = true
		}
	}
	for _, segment := range segments {
		n := segment.Network
		if n.Mode == fabric.ModeUnderlay || len(segment.Local) == 0 {
			continue // the LAN leads to the others
		}
		trip := echoTrip{network: n, from: segment.Local[0]}
		routes := make(map[netip.Addr]echoRoute)
		for _, peer := range segment.Remote {
			r := routes[peer.VTEP]
			if asked[kind{n.Mode, n.Tunnel, peer.VTEP}] || len(r.to) == perHost {
				continue
			}
			if from, to, ok := sameFamily(trip.from, peer.Endpoint); ok && (!r.from.IsValid() || r.from == from) {
				routes[peer.VTEP] = echoRoute{peer.Host, peer.VTEP, n.Label(), segment.MTU, from, append(r.to, to)}
			}
		}
		for _, vtep := range slices.SortedFunc(maps.Keys(routes), netip.Addr.Compare) {
			asked[kind{n.Mode, n.Tunnel, vtep}] = true
			trip.routes = append(trip.routes, routes[vtep])
		}
		if len(trip.routes) > 0 {
			trips = append(trips, trip)
		}
	}
	return trips
}

// sameFamily gives an address of each, IPv4 ones first.
func sameFamily(one, other fabric.Endpoint) (netip.Addr, netip.Addr, bool) {
	for _, v6 := range []bool{false, true} {
		from, to := addrOf(one, v6), addrOf(other, v6)
		if from.IsValid() && to.IsValid() {
			return from, to, true
		}
	}
	return netip.Addr{}, netip.Addr{}, false
}

func addrOf(e fabric.Endpoint, v6 bool) netip.Addr {
	for _, prefix := range e.Addrs {
		if addr := prefix.Addr().Unmap(); addr.Is6() == v6 {
			return addr
		}
	}
	return netip.Addr{}
}

type echoResult struct {
	unanswered
	echoRoute
}

// make asks, and gives the routes that do not answer all.
func (t echoTrip) make(ctx context.Context, in *Inputs) (came []echoResult, err error) {
	ns, _, err := sandbox.Find(in.SandboxDir, t.from)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, nil // it just ended
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, route := range t.routes {
		group.Go(func() error {
			counted, large, err := route.ask(ctx, ns)
			if err != nil {
				return err
			}
			in.tried.add(counted.tunnel(in.Host.Name, route.host, t.network))
			small := counted.answered > 0
			if small && large {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			came = append(came, echoResult{unanswered{t.network.Mode, t.network.Encrypted, small}, route})
			return nil
		})
	}
	err = group.Wait()
	return came, err
}

// ask counts the answers to small requests, until one of the containers answers, and says
// whether that one answers large ones.
func (r echoRoute) ask(ctx context.Context, ns netns.NsHandle) (small answers, large bool, err error) {
	request := echo.Request{From: r.from, Times: 3, Every: 250 * time.Millisecond}
	for _, request.To = range r.to {
		answer, err := echo.Measure(ctx, ns, request)
		small.count(answer.Asked, answer.After)
		if err != nil {
			return small, false, err
		}
		if small.answered > 0 {
			request.Size = r.size
			large, err = echo.Ask(ctx, ns, request)
			return small, large, err
		}
	}
	return small, false, nil
}

func (u unanswered) tell(ctx context.Context, in *Inputs, routes []echoRoute) Finding {
	hosts := make([]string, 0, len(routes))
	for _, route := range routes {
		hosts = append(hosts, route.host)
	}
	names := strings.Join(hostsOf(ctx, in, hosts), ", ")
	f := Finding{Severity: Problem, Scope: "the way to " + names, About: aboutTunnels(in.Host.Name, hosts)}
	asked := fmt.Sprintf("asked on network %s, from %s to %s", routes[0].label, routes[0].from, routes[0].to[0])
	if u.narrow {
		f.Cause = fmt.Sprintf("Large packets of mode=%s are lost on the way to %s: connections hang once they send much.", u.mode, names)
		f.Evidence = fmt.Sprintf("%s: small ICMP echo requests are answered, those of %d bytes, as large as containers may send, are not", asked, routes[0].size)
		f.Remedy = "The path carries less than this host's NIC: make its MTU the same all the way (ip link, switches, VPNs; try ping -M do -s SIZE VTEP), or make the network with -o mtu=N."
		return f
	}
	f.Cause = fmt.Sprintf("Nothing comes back on networks of mode=%s from %s.", u.mode, names)
	f.Evidence = asked + ": no answer to three ICMP echo requests"
	f.Remedy = "causeway trace FROM TO, with a container of each host, names the hop where packets are lost. " + u.passes()
	return f
}

// passes says what a firewall between the hosts must let through.
func (u unanswered) passes() string {
	switch {
	case u.sealed:
		return "A firewall between the hosts must let the UDP ports of WireGuard (--wireguard-port, 51822, and the next one) through."
	case u.mode == fabric.ModeRouted:
		return "Routers and firewalls between the hosts must let the containers' own addresses through, or with -o via=vxlan UDP port 4789 (--vxlan-port)."
	case u.mode == fabric.ModeOVS:
		return "A firewall between the hosts must let the tunnel through: UDP port 8472 (--ovs-vxlan-port) or 6081 (-o tunnel=geneve), or IP protocol 47 (-o tunnel=gre)."
	}
	return "A firewall between the hosts must let UDP port 4789 (--vxlan-port) through."
}
