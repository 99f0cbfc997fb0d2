package ovs

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/internal/vswitch"
)

// A network's groups have its VNI in the lower 24 bits of their IDs, and in the
// upper 8 their number from firstGroup: other programs on our bridge leave the IDs
// from 0xca000000 to us. 0xff is the protocol's own (OFPG_MAX).
const (
	firstGroup = 0xca
	maxGroups  = 0xfe - firstGroup + 1
	vniMask    = 0xffffff
	// groupSize is how many VTEPs a group has on the average. A message of 64 KiB
	// has room for about 900 buckets.
	groupSize = 384
)

func groupID(vni uint32, number int) uint32 { return uint32(firstGroup+number)<<24 | vni&vniMask }

// groupIDs returns the IDs of the groups of a flood list.
func groupIDs(vni uint32, vteps int) []uint32 {
	if vteps == 0 {
		return nil
	}
	count := 1
	for count*groupSize < vteps && count*2 <= maxGroups {
		count *= 2
	}
	ids := make([]uint32, count)
	for number := range ids {
		ids[number] = groupID(vni, number)
	}
	return ids
}

// groupsOf returns the groups of a flood list. The group of a VTEP follows from its
// address, so that one that comes or goes changes one group.
func groupsOf(vni uint32, flood []netip.Addr, tunnel int) []vswitch.Group {
	ids := groupIDs(vni, len(flood))
	buckets, counts := make([]strings.Builder, len(ids)), make([]int, len(ids))
	for _, vtep := range flood {
		number := 0
		if len(ids) > 1 {
			hash := fnv.New32a()
			_, _ = hash.Write(vtep.AsSlice()) // it has no way to fail
			number = int(hash.Sum32() % uint32(len(ids)))
		}
		fmt.Fprintf(&buckets[number], ",bucket=bucket_id:%d,actions=set_field:%s->%s,%s",
			counts[number], vtep, tunnelField(vtep, "dst"), output(tunnel))
		counts[number]++
	}
	groups := make([]vswitch.Group, len(ids))
	for number, id := range ids {
		groups[number] = vswitch.Group{ID: id, Buckets: buckets[number].String()}
	}
	return groups
}

// regroup compares a network's groups on the switch with those that are wanted.
func regroup(have map[uint32]string, vni uint32, want []vswitch.Group) (set []vswitch.Group, remove []uint32) {
	for _, g := range want {
		if buckets, there := have[g.ID]; !there || buckets != g.Buckets {
			set = append(set, g)
		}
	}
	for number := range maxGroups {
		id := groupID(vni, number)
		_, there := have[id]
		if there && !slices.ContainsFunc(want, func(g vswitch.Group) bool { return g.ID == id }) {
			remove = append(remove, id)
		}
	}
	return set, remove
}

// ourGroups picks those in our range of IDs that send into tunnels, and counts the others.
func ourGroups(all []vswitch.Group) (ours map[uint32]string, others int) {
	ours = make(map[uint32]string)
	for _, g := range all {
		if g.ID>>24 >= firstGroup && (g.Buckets == "" || strings.Contains(g.Buckets, "->tun_")) {
			ours[g.ID] = g.Buckets
		} else {
			others++
		}
	}
	return ours, others
}
