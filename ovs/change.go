package ovs

import (
	"fmt"
	"slices"
	"strings"
)

// change turns what the switch has into what is wanted, in one bundle.
type change struct {
	remove, add  []flow
	setGroups    []group // added or modified
	removeGroups []uint32
}

// changeOf returns the change from have to want, which both have one flow for each
// key. Adding a flow replaces the one with its key, so only keys that are no
// longer wanted are removed.
func changeOf(have, want []flow) change {
	var c change
	there := make(map[flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[flowKey]bool, len(want))
	for _, f := range want {
		wanted[f.key()] = true
		if !there[f] {
			c.add = append(c.add, f)
		}
	}
	for _, f := range have {
		if !wanted[f.key()] {
			c.remove = append(c.remove, f)
		}
	}
	slices.SortFunc(c.add, compareFlows)
	slices.SortFunc(c.remove, compareFlows)
	return c
}

// missingOf counts what is in both last and want, and not in have.
func missingOf(last, want, have []flow) int {
	there := make(map[flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[flow]bool, len(want))
	for _, f := range want {
		wanted[f] = true
	}
	missing := 0
	for _, f := range last {
		if wanted[f] && !there[f] {
			missing++
		}
	}
	return missing
}

func (c change) size() int {
	return len(c.remove) + len(c.add) + len(c.setGroups) + len(c.removeGroups)
}

// bundle is the input of "ovs-ofctl bundle". Groups come before the flows that
// name them, and go after: a flow goes with its group.
func (c change) bundle() string {
	var b strings.Builder
	for _, g := range c.setGroups {
		fmt.Fprintf(&b, "group add_or_mod group_id=%d,type=all%s\n", g.id, g.buckets)
	}
	for _, f := range c.remove {
		fmt.Fprintf(&b, "flow delete_strict cookie=%#x/-1,%s\n", f.cookie, f.key())
	}
	for _, f := range c.add {
		fmt.Fprintf(&b, "flow add %s\n", f)
	}
	for _, id := range c.removeGroups {
		fmt.Fprintf(&b, "group delete group_id=%d\n", id)
	}
	return b.String()
}
