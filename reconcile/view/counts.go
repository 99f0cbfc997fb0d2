package view

import (
	"maps"
	"slices"
)

// Counts says how many hosts and networks the cluster has.
func (v *View) Counts() (hosts, networks int) { return len(v.state.Hosts), len(v.state.Networks) }

// CountsOn says how many endpoints a network has in view, and how many on this host.
func (v *View) CountsOn(network string) (all, local int) {
	for _, n := range v.on[network] {
		all += n
	}
	return all, len(v.own[network])
}

// OwnOn are the IDs of this host's endpoints on a network.
func (v *View) OwnOn(network string) []string { return slices.Collect(maps.Keys(v.own[network])) }
