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

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/tunnelprobe"
)

const (
	// perHost is how many containers of a host are asked: one may be about to end.
	perHost = 2
	// atOnce is in how many networks questions are asked at once.
	atOnce      = 16
	ethernetLen = 14
)

// tunnels asks containers on the other hosts, through the tunnels of mode=vxlan, by a small
// frame and then by one as large as containers may send. Each host is asked on one network.
func tunnels(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	trips := plan(segments)
	if len(trips) == 0 {
		return nil, nil
	}
	ear, nic, err := listen(in, trips)
	if err != nil {
		return nil, err
	}
	if ear != nil {
		defer ear.Close()
	}
	var mu sync.Mutex
	results := make(map[outcome][]route)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, trip := range trips {
		group.Go(func() error {
			came, err := trip.make(ctx, in, ear)
			if errors.Is(err, nl.ErrNotFound) {
				return nil // the check of the planes tells
			}
			mu.Lock()
			defer mu.Unlock()
			for outcome, routes := range came {
				results[outcome] = append(results[outcome], routes...)
			}
			return err
		})
	}
	err = group.Wait()
	return tell(ctx, in, results, nic), err
}

// route is the way to one host, and containers there.
type route struct {
	host  string // its key
	vtep  netip.Addr
	size  int // of the largest frame, in bytes
	label string
	to    []addrprobe.Station
}

// trip is what is asked on one network.
type trip struct {
	network   fabric.Network
	from      addrprobe.Station
	routes    []route
	encrypted bool
}

// plan picks, for each other host, a network and containers to ask.
func plan(segments []fabric.Segment) (trips []trip) {
	asked := make(map[netip.Addr]bool)
	for _, segment := range segments {
		if segment.Network.Mode != fabric.ModeVXLAN {
			continue
		}
		t, ok := tripOf(segment, asked)
		if !ok {
			continue // another network may lead to these hosts
		}
		trips = append(trips, t)
		for _, route := range t.routes {
			asked[route.vtep] = true
		}
	}
	return trips
}

// tripOf asks on segment those hosts that are not asked yet.
func tripOf(segment fabric.Segment, asked map[netip.Addr]bool) (trip, bool) {
	t := trip{network: segment.Network, encrypted: segment.Network.Encrypted}
	for _, endpoint := range segment.Local {
		if station, ok := stationOf(endpoint); ok && !t.from.Addr.IsValid() {
			t.from = station
		}
	}
	routes := make(map[netip.Addr]route)
	for _, peer := range segment.Remote {
		station, ok := stationOf(peer.Endpoint)
		if r := routes[peer.VTEP]; ok && !asked[peer.VTEP] && len(r.to) < perHost {
			routes[peer.VTEP] = route{peer.Host, peer.VTEP, ethernetLen + segment.MTU, segment.Network.Label(), append(r.to, station)}
		}
	}
	for _, vtep := range slices.SortedFunc(maps.Keys(routes), netip.Addr.Compare) {
		t.routes = append(t.routes, routes[vtep])
	}
	return t, t.from.Addr.IsValid() && len(t.routes) > 0
}

// stationOf is an endpoint as its neighbours know it; only IPv4 is asked.
func stationOf(endpoint fabric.Endpoint) (addrprobe.Station, bool) {
	for _, prefix := range endpoint.Addrs {
		if addr := prefix.Addr().Unmap(); addr.Is4() {
			return addrprobe.Station{MAC: endpoint.MAC, Addr: addr}, true
		}
	}
	return addrprobe.Station{}, false
}

// listen hears what comes to the NIC that leads to the other hosts. What is encrypted
// cannot be heard there.
func listen(in *Inputs, trips []trip) (ear *tunnelprobe.Ear, nic string, err error) {
	index := slices.IndexFunc(trips, func(t trip) bool { return !t.encrypted })
	if index < 0 {
		return nil, "", nil
	}
	vtep := trips[index].routes[0].vtep
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, "", err
	}
	defer host.Close()
	routes, err := host.RouteGet(nl.IP(vtep))
	if err != nil || len(routes) == 0 {
		return nil, "", nil // then nothing answers either
	}
	link, err := host.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return nil, "", fmt.Errorf("find the NIC that leads to %s: %w", vtep, err)
	}
	ear, err = tunnelprobe.Listen(host.NS(), link, vtep, in.VXLANPort)
	return ear, link.Attrs().Name, err
}

// outcome is how it went with a host.
type outcome int

const (
	silent outcome = iota // no answer
	sealed                // no answer through WireGuard
	kept                  // answers come to the NIC, and no further
	narrow                // only small frames are answered
)

// make asks, and sorts the hosts by what came of it; those that answer all are left out.
func (t trip) make(ctx context.Context, in *Inputs, ear *tunnelprobe.Ear) (map[outcome][]route, error) {
	ns, device, err := in.Tunnels.Tunnel(t.network.ID)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	handle, err := nl.Open(ns)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	link, err := handle.Link(device)
	if err != nil {
		return nil, err
	}
	var stations []addrprobe.Station
	for _, route := range t.routes {
		stations = append(stations, route.to...)
	}
	answers, err := tunnelprobe.Reach(ctx, ns, link, t.from, stations, 0)
	if err != nil {
		return nil, fmt.Errorf("ask through the tunnel of network %s: %w", t.network.Label(), err)
	}
	came := make(map[outcome][]route)
	var large []addrprobe.Station
	for i, route := range t.routes {
		in.tried.add(tunnelOf(in.Host.Name, t, route, answers))
		t.routes[i].to = slices.DeleteFunc(slices.Clone(route.to), func(s addrprobe.Station) bool { return answers[s].After == 0 })
		switch {
		case len(t.routes[i].to) > 0:
			large = append(large, t.routes[i].to...)
		case ear != nil && slices.ContainsFunc(route.to, ear.Heard):
			came[kept] = append(came[kept], route)
		case t.encrypted:
			came[sealed] = append(came[sealed], route)
		default:
			came[silent] = append(came[silent], route)
		}
	}
	if len(large) == 0 {
		return came, nil
	}
	answers, err = tunnelprobe.Reach(ctx, ns, link, t.from, large, t.routes[0].size)
	for _, route := range t.routes {
		if len(route.to) > 0 && !slices.ContainsFunc(route.to, func(s addrprobe.Station) bool { return answers[s].After > 0 }) {
			came[narrow] = append(came[narrow], route)
		}
	}
	return came, err
}

// tell makes one finding of each outcome, whatever the number of hosts.
func tell(ctx context.Context, in *Inputs, results map[outcome][]route, nic string) (found []Finding) {
	for _, outcome := range slices.Sorted(maps.Keys(results)) {
		routes := results[outcome]
		keys := make([]string, 0, len(routes))
		for _, route := range routes {
			keys = append(keys, route.host)
		}
		hosts := strings.Join(hostsOf(ctx, in, keys), ", ")
		f := Finding{Severity: Problem, Scope: "the way to " + hosts, About: aboutTunnels(in.Host.Name, keys)}
		asked := fmt.Sprintf("asked on network %s, %s", routes[0].label, routes[0].vtep)
		switch outcome {
		case silent:
			f.Cause = fmt.Sprintf("Nothing comes back through the tunnel from %s.", hosts)
			f.Evidence = fmt.Sprintf("%s: no answer to three frames for its containers (VXLAN, UDP port %d), and none came to this host's NIC", asked, in.VXLANPort)
			f.Remedy = fmt.Sprintf("If the host is up, a firewall there, here or between drops UDP port %d one way or both: let it through. "+
				"causeway doctor on the other host says whether it drops what comes; tcpdump -ni any udp port %d on both shows how far frames get.", in.VXLANPort, in.VXLANPort)
		case sealed:
			f.Cause = fmt.Sprintf("Nothing comes back through the encrypted tunnel from %s.", hosts)
			f.Evidence = asked + ", the address of its WireGuard device: no answer to three frames for its containers"
			f.Remedy = "If networks that are not encrypted reach the host, a firewall drops the UDP ports of WireGuard (--wireguard-port, 51822, and the next one): let them through, both ways. " +
				"wg show on both hosts says when they last heard from one another."
		case kept:
			f.Cause = fmt.Sprintf("This host's own firewall drops what comes through the tunnel from %s.", hosts)
			f.Evidence = fmt.Sprintf("%s: answers of its containers come to %s (UDP port %d), and do not come out of the tunnel", asked, nic, in.VXLANPort)
			f.Remedy = fmt.Sprintf("Let UDP port %d in from the other hosts: look at nft list ruleset and iptables -S INPUT.", in.VXLANPort)
		case narrow:
			f.Cause = fmt.Sprintf("Large packets are lost on the way to %s: connections hang once they send much.", hosts)
			f.Evidence = fmt.Sprintf("%s: small frames are answered, those of %d bytes, as large as containers may send, are not", asked, routes[0].size)
			f.Remedy = "The path carries less than this host's NIC: make its MTU the same all the way (ip link, switches, VPNs; try ping -M do -s SIZE VTEP), " +
				"or make the network with -o mtu=N: the path's, less 50."
		}
		found = append(found, f)
	}
	return found
}

// hostsOf names hosts by their keys.
func hostsOf(ctx context.Context, in *Inputs, keys []string) []string {
	r, err := in.Records(ctx)
	var names []string
	for _, name := range keys {
		if host, known := r.Hosts[name]; err == nil && known {
			name = host.Shown()
		}
		names = append(names, "host "+name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	const most = 5
	if more := len(names) - most; more > 0 {
		return append(names[:most], fmt.Sprint(more, " more"))
	}
	return names
}
