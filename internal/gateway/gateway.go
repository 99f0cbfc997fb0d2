// Package gateway has the networks' own way out: an interface of the host for each
// network, with the network's gateway addresses, and what lets its containers' packets
// through the host and keeps the rest out.
//
// A packet's path: a container sends it to its gateway's MAC, and the data plane to the
// interface cwg?-<hash> of this host, which it has made. There the host routes it. The
// plane's table of nf_tables (table.go) drops what must not pass: senders outside the
// network, other networks' containers, and the host itself but for a ping. What leaves is
// masqueraded. Docker's policy in FORWARD is DROP: one rule of package forward accepts
// there what came through the table. The answer takes the same way back.
//
// All hosts have the same addresses and the same MAC: the data plane keeps each from
// being asked or reached from another host.
//
// A change's path: a plane asks with [Gateways.Admit] whether the network's gateway can be
// here, makes the interface, and has [Gateways.Ensure] equip it. [Gateways.Prune] deletes
// what no network needs; [Gateways.Watch] hears what others change.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/forward"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
)

// Gateway is one network's gateway as each host has it.
type Gateway struct {
	// Network is the network's ID, Label what its users call it.
	Network, Label string
	// Link is the host's interface.
	Link string
	MAC  fabric.MAC
	// MTU of the interface in bytes; zero leaves it as it is.
	MTU int
	// Addrs are the gateway's addresses, with their subnets' lengths.
	Addrs []netip.Prefix
	// Subnets are the network's, those without a gateway too.
	Subnets []netip.Prefix
	// Masquerade says that what leaves gets the host's own address.
	Masquerade bool
	// HostAccess says that containers reach what the host serves.
	HostAccess bool
	// Routed says that the network's packets from and to other hosts pass this host's
	// forwarding: they are let through, and keep their addresses.
	Routed bool
	// Through is the one device by which an encrypted routed network's packets go to other
	// hosts and come from them; empty where they may take any.
	Through string
	// Inside says that no others pass: it is the gateway of a routed network that is
	// internal.
	Inside bool
}

// Of gives the gateway that a network's record asks for; ok is false where Docker's own
// is used or there is none. A routed network always has one: its containers reach each
// other through it.
func Of(network fabric.Network) (g Gateway, ok bool) {
	routed := network.Mode == fabric.ModeRouted
	if !routed && (network.Internal || network.DockerGateway) {
		return Gateway{}, false
	}
	g = Gateway{
		Network: network.ID, Label: network.Label(), Link: LinkName(network),
		Masquerade: !network.NoMasquerade && !network.Internal, HostAccess: network.HostAccess,
		Routed: routed, Inside: network.Internal,
	}
	if routed && network.Encrypted {
		g.Through = fabric.SealedDevice
	}
	for _, subnet := range network.Subnets {
		g.Subnets = append(g.Subnets, subnet.Prefix)
		if subnet.Gateway.IsValid() {
			g.Addrs = append(g.Addrs, netip.PrefixFrom(subnet.Gateway, subnet.Prefix.Bits()))
		}
	}
	if len(g.Addrs) == 0 {
		return Gateway{}, false
	}
	g.MAC = fabric.DeriveMAC(network.ID, g.Addrs[0].Addr())
	return g, true
}

// LinkName is the host's interface of a network: cwg, the mode's first letter, and a hash.
func LinkName(network fabric.Network) string {
	return fabric.DeviceName(prefixOf(network.Mode), network.ID)
}

// allPrefix begins the names of the interfaces of all modes, prefixOf those of one.
const allPrefix = "cwg"

func prefixOf(mode fabric.Mode) string { return allPrefix + string(mode[:1]) + "-" }

// Alias of the host's interface: whose it is.
func (g Gateway) Alias() string { return aliasPrefix + g.Network }

const aliasPrefix = "causeway gateway "

// Endpoint is the gateway's place on its network: to a data plane it is one more
// container of this host.
func (g Gateway) Endpoint() fabric.Endpoint {
	return fabric.Endpoint{ID: endpointPrefix + g.Network, Network: g.Network, MAC: g.MAC, Addrs: g.all(), Name: "gateway"}
}

// all are the addresses of the interface: with IPv6 a link-local one, too, which the host
// asks for containers with (RFC 4861 §7.2.2).
func (g Gateway) all() []netip.Prefix {
	const bits = 64
	if !slices.ContainsFunc(g.Addrs, func(a netip.Prefix) bool { return a.Addr().Is6() }) {
		return g.Addrs
	}
	return append(slices.Clone(g.Addrs), netip.PrefixFrom(g.MAC.LinkLocal(), bits))
}

const endpointPrefix = "gateway-"

// IsEndpoint says whether e is a gateway's place.
func IsEndpoint(e fabric.Endpoint) bool { return strings.HasPrefix(e.ID, endpointPrefix) }

// Config is what Gateways work with; all but Board are required.
type Config struct {
	// Mode is the data plane's, whose interfaces and tables these are.
	Mode fabric.Mode
	// Host is the host's namespace; it stays the caller's to close.
	Host  *nl.Handle
	Board *health.Board
	Log   *logrus.Entry
}

// Gateways are those of one data plane on this host. Its methods come one at a time but
// for Watch, which runs beside them.
type Gateways struct {
	Config
	rules forward.Rules

	mu     sync.Mutex
	tables []*table // of IPv4 and IPv6
	// up are the gateways that are as they should be, by network.
	up map[string]present
}

// present is a gateway that is here, by its interface's index.
type present struct {
	Gateway
	index int
}

// New makes Gateways; nothing is changed before Ensure.
func New(config Config) *Gateways {
	g := &Gateways{
		Config: config, up: make(map[string]present),
		rules: forward.Rules{NS: config.Host.NS(), Comment: aliasPrefix + string(config.Mode) + " "},
	}
	for _, family := range []family{ipv4, ipv6} {
		g.tables = append(g.tables, newTable(config.Host.NS(), family, "causeway-gateway-"+string(config.Mode)))
	}
	return g
}

// Admit gives the gateway that this host is to have of a network. Where it can't have it,
// as the health board then says, containers take Docker's own.
func (g *Gateways) Admit(network fabric.Network) (Gateway, bool) {
	gateway, ok := Of(network)
	if !ok {
		return Gateway{}, false
	}
	err := g.conflict(gateway)
	g.report(gateway, err)
	return gateway, err == nil
}

func (g *Gateways) report(gateway Gateway, err error) {
	if err != nil {
		err = fmt.Errorf("network %s has no gateway of its own on this host, and its containers take Docker's (docker_gwbridge): %w", gateway.Label, err)
	}
	g.Board.Report(health.Scope{Part: health.Gateway, Object: g.object(gateway.Network)}, err)
}

// object names a network on the health board, which the other planes use too.
func (g *Gateways) object(network string) string { return string(g.Mode) + " " + network }

// Conflict says why the gateway can't be on this host, as [Gateways.Admit] does.
func (g *Gateways) Conflict(gateway Gateway) error { return g.conflict(gateway) }

// Ensure equips the interface of an admitted gateway, which the plane has made, and counts
// what was not as it should be. Reading back costs what the gateway has, and after
// Invalidate once what all have.
func (g *Gateways) Ensure(ctx context.Context, gateway Gateway) (repaired int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.up[gateway.Network]
	delete(g.up, gateway.Network)
	index := 0
	for _, step := range []func() (int, error){
		func() (int, error) { return g.permit(gateway) },
		func() (int, error) { return g.rules.OpenRouted(ctx, prefixOf(g.Mode)) },
		func() (int, error) { return g.enableForwarding(gateway) },
		func() (count int, err error) { index, count, err = g.equip(gateway); return count, err },
	} {
		count, err := step()
		repaired += count
		if err != nil {
			err = fmt.Errorf("gateway %s: %w", gateway.Link, err)
			g.report(gateway, err)
			return 0, err
		}
	}
	g.up[gateway.Network] = present{gateway, index}
	if !known {
		repaired = 0
	}
	return repaired, nil
}

// permit has the tables know the gateway.
func (g *Gateways) permit(gateway Gateway) (changed int, err error) {
	for _, table := range g.tables {
		count, err := table.ensure(gateway)
		changed += count
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// Up gives the addresses of the network's gateway on this host, if it is as it should be.
func (g *Gateways) Up(network string) []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	var addrs []netip.Addr
	for _, addr := range g.up[network].Addrs {
		addrs = append(addrs, addr.Addr())
	}
	return addrs
}

// Prune deletes the interfaces of the plane's networks that are not kept, and what the
// tables have for them; with the last one, the tables and the rule in FORWARD.
func (g *Gateways) Prune(ctx context.Context, keep []fabric.Network) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var wanted []Gateway
	links, networks := make(map[string]bool), make(map[string]bool)
	for _, network := range keep {
		if gateway, ok := Of(network); ok && network.Mode == g.Mode {
			wanted = append(wanted, gateway)
			links[gateway.Link], networks[network.ID] = true, true
		}
	}
	maps.DeleteFunc(g.up, func(id string, _ present) bool { return !networks[id] })
	g.Board.Retain(health.Gateway, func(object string) bool {
		id, ours := strings.CutPrefix(object, g.object(""))
		return !ours || networks[id]
	})
	errs := []error{g.pruneLinks(links)}
	for _, table := range g.tables {
		errs = append(errs, table.prune(wanted))
	}
	if len(wanted) == 0 {
		errs = append(errs, g.rules.CloseAllBut(ctx, nil))
	}
	return errors.Join(errs...)
}

// Invalidate has the tables read back by the next Ensure.
func (g *Gateways) Invalidate() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.invalidate()
}

func (g *Gateways) invalidate() {
	for _, table := range g.tables {
		table.have = nil
	}
}
