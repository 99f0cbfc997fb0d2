package records

import (
	"maps"
	"net/netip"
	"slices"
)

// DefaultSpace is where pools are made unless the user names a space.
const DefaultSpace = "default"

// Overlapping finds a pool of space that shares addresses with prefix; the first by key.
func Overlapping(pools map[string]Pool, space string, prefix netip.Prefix) (Pool, bool) {
	for _, id := range slices.Sorted(maps.Keys(pools)) {
		if pool := pools[id]; pool.Space == space && pool.Prefix.Overlaps(prefix) {
			return pool, true
		}
	}
	return Pool{}, false
}

// Holder says, to follow "in use", who has the address.
func (a Address) Holder() string {
	switch a.Kind {
	case KindGateway:
		return "as the gateway"
	case KindAux:
		return "as the aux address " + a.Name
	case KindForeign:
		return "by a machine on the wire"
	}
	if a.Name != "" {
		return "by host " + a.Host + " (container " + a.Name + ")"
	}
	return "by host " + a.Host
}
