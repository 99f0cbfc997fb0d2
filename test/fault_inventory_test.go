package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// inventory counts what a host has for its networks, by kind: what is left over shows
// as more, what is missing as less. Names differ from one start of a container to the next.
type inventory map[string]int

// inventory counts on the host and in the namespaces of its networks.
func (h *host) inventory() inventory {
	h.c.Helper()
	counted := inventory{}
	count := func(kind string, argv ...string) {
		out, err := h.try(argv...)
		if err != nil {
			counted[kind+" of a namespace that goes"]++
			return
		}
		for line := range strings.Lines(out) {
			if strings.TrimSpace(line) != "" {
				counted[kind]++
			}
		}
	}
	count("namespaces", "ip", "netns", "list")
	count("links", "ip", "-o", "link", "show")
	count("rules", "ip", "rule", "show")
	count("routes", "ip", "route", "show", "table", "all")
	count("routes of IPv6", "ip", "-6", "route", "show", "table", "all", "type", "unicast")
	count("lines of nftables", "nft", "--stateless", "list", "ruleset")
	spaces, err := h.try("ip", "netns", "list")
	if err != nil {
		h.c.Fatal(err)
	}
	for line := range strings.Lines(spaces) {
		name := strings.Fields(line)[0]
		if !strings.HasPrefix(name, "causeway-") {
			continue
		}
		count("links in networks", "ip", "-n", name, "-o", "link", "show")
		count("FDB entries", "bridge", "-n", name, "fdb", "show")
		count("neighbours", "ip", "-n", name, "neigh", "show", "nud", "permanent")
	}
	for _, network := range h.c.clusterNetworks(1) {
		for _, pool := range network.Pools {
			counted["addresses in use"] += pool.Used
		}
	}
	return counted
}

// diff says what other has more or less of.
func (i inventory) diff(other inventory) string {
	var found []string
	kinds := maps.Clone(i)
	maps.Copy(kinds, other)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if i[kind] != other[kind] {
			found = append(found, fmt.Sprintf("%d %s, not %d", other[kind], kind, i[kind]))
		}
	}
	return strings.Join(found, "; ")
}
