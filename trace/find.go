package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
)

// Records are the tables that a trace is planned by.
type Records struct {
	Hosts     map[string]fabric.Host
	Networks  map[string]fabric.Network
	Endpoints map[string]fabric.Endpoint
}

// pair is whom a probe goes between.
type pair struct {
	network  fabric.Network
	from, to fabric.Endpoint
	source   netip.Addr
	dest     netip.Addr
}

const shortID = 12

// is says whether name is the container of an endpoint: its name, an alias, its ID, or
// the endpoint's.
func is(e fabric.Endpoint, name string) bool {
	return e.Name == name || slices.ContainsFunc(e.Names, func(n string) bool {
		return n == name || len(n) == shortID && len(name) > shortID && strings.HasPrefix(name, n)
	}) || len(name) >= shortID && strings.HasPrefix(e.ID, name)
}

// find looks both ends up; host is the key of the one that asks.
func (r Records) find(from, to, host string) (pair, error) {
	var here []fabric.Endpoint
	elsewhere := ""
	for _, e := range r.sorted() {
		switch {
		case !is(e, from):
		case e.Host == host:
			here = append(here, e)
		default:
			elsewhere = r.Hosts[e.Host].Shown()
		}
	}
	if len(here) == 0 && elsewhere != "" {
		return pair{}, fmt.Errorf("container %s runs on host %s: run causeway trace there", from, elsewhere)
	}
	if len(here) == 0 {
		return pair{}, fmt.Errorf("no container on causeway's networks of this host is called %s", from)
	}
	addr, _ := netip.ParseAddr(to) // else it is a name
	var pairs []pair
	known := addr.IsValid()
	for _, e := range r.sorted() {
		if !hasAddr(e, addr) && (addr.IsValid() || !is(e, to)) {
			continue
		}
		known = true
		for _, own := range here {
			if p, ok := between(own, e, addr); ok {
				p.network = r.Networks[own.Network]
				pairs = append(pairs, p)
			}
		}
	}
	if exact := slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool { return p.to.Name != to }); len(exact) > 0 {
		pairs = exact
	}
	return choose(pairs, from, to, known)
}

func choose(pairs []pair, from, to string, known bool) (pair, error) {
	switch {
	case !known:
		return pair{}, fmt.Errorf("no container on causeway's networks is called %s", to)
	case len(pairs) == 0:
		return pair{}, fmt.Errorf("%s is on none of the networks of container %s, and the way out of a network is not traced", to, from)
	case slices.ContainsFunc(pairs, func(p pair) bool { return p.to.Host != pairs[0].to.Host || p.to.Name != pairs[0].to.Name }):
		return pair{}, fmt.Errorf("%s may be container %s or another: give its own name, or its address", to, pairs[0].to.Name)
	}
	return pairs[0], nil
}

// between gives addresses of one family, IPv4 first; with addr it is the other's.
func between(own, other fabric.Endpoint, addr netip.Addr) (pair, bool) {
	if own.Network != other.Network || own.ID == other.ID {
		return pair{}, false
	}
	for _, v6 := range []bool{false, true} {
		for _, source := range own.Addrs {
			for _, dest := range other.Addrs {
				s, d := source.Addr().Unmap(), dest.Addr().Unmap()
				if s.Is6() == v6 && d.Is6() == v6 && (!addr.IsValid() || d == addr.Unmap()) {
					return pair{from: own, to: other, source: s, dest: d}, true
				}
			}
		}
	}
	return pair{}, false
}

func hasAddr(e fabric.Endpoint, addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(e.Addrs, func(p netip.Prefix) bool { return p.Addr().Unmap() == addr.Unmap() })
}

func (r Records) sorted() []fabric.Endpoint {
	endpoints := make([]fabric.Endpoint, 0, len(r.Endpoints))
	for _, e := range r.Endpoints {
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b fabric.Endpoint) int {
		return cmp.Or(strings.Compare(a.Network, b.Network), strings.Compare(a.ID, b.ID))
	})
	return endpoints
}
