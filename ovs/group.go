package ovs

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// group is an OpenFlow group of type all: it sends a copy of the frame through
// each of its buckets, one for each VTEP of a flood list.
type group struct {
	id uint32
	// buckets are in the words of "ovs-ofctl dump-groups".
	buckets string
}

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
func groupsOf(vni uint32, flood []netip.Addr, tunnel int) []group {
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
	groups := make([]group, len(ids))
	for number, id := range ids {
		groups[number] = group{id, buckets[number].String()}
	}
	return groups
}

// regroup compares a network's groups on the switch with those that are wanted.
func regroup(have map[uint32]string, vni uint32, want []group) (set []group, remove []uint32) {
	for _, g := range want {
		if buckets, there := have[g.id]; !there || buckets != g.buckets {
			set = append(set, g)
		}
	}
	for number := range maxGroups {
		id := groupID(vni, number)
		_, there := have[id]
		if there && !slices.ContainsFunc(want, func(g group) bool { return g.id == id }) {
			remove = append(remove, id)
		}
	}
	return set, remove
}

// parseGroups reads the text of dump-groups: ours, which are in our range of IDs
// and send into tunnels, and how many others there are.
func parseGroups(text string) (ours map[uint32]string, others int, err error) {
	ours = make(map[uint32]string)
	for line := range strings.Lines(text) {
		number, isGroup := strings.CutPrefix(strings.TrimSpace(line), "group_id=")
		if !isGroup {
			continue // the reply's headline
		}
		number, rest, _ := strings.Cut(number, ",")
		buckets, isAll := strings.CutPrefix(rest, "type=all")
		id, err := strconv.ParseUint(number, 10, 32)
		switch {
		case err != nil:
			return nil, 0, fmt.Errorf("group %q: %w", line, err)
		case id>>24 >= firstGroup && isAll && (buckets == "" || strings.Contains(buckets, "->tun_")):
			ours[uint32(id)] = buckets
		default:
			others++
		}
	}
	return ours, others, nil
}
