package vswitch

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-net/causeway/internal/openflow"
)

// Group is an OpenFlow group of type all: it sends a copy of the frame through
// each of its buckets.
type Group struct {
	ID uint32
	// Buckets are in the words of "ovs-ofctl dump-groups".
	Buckets string
}

// Change turns what the switch has into what is wanted: flows and groups in one bundle,
// meters before it, or after it those that are deleted.
type Change struct {
	Remove, Add  []Flow
	SetGroups    []Group // added or modified
	RemoveGroups []uint32
	Meters       []openflow.MeterChange
}

// ChangeOf returns the change from have to want, which both have one flow for each
// key. Adding a flow replaces the one with its key, so only keys that are no
// longer wanted are removed.
func ChangeOf(have, want []Flow) Change {
	var c Change
	there := make(map[Flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[FlowKey]bool, len(want))
	for _, f := range want {
		wanted[f.Key()] = true
		if !there[f] {
			c.Add = append(c.Add, f)
		}
	}
	for _, f := range have {
		if !wanted[f.Key()] {
			c.Remove = append(c.Remove, f)
		}
	}
	slices.SortFunc(c.Add, CompareFlows)
	slices.SortFunc(c.Remove, CompareFlows)
	return c
}

// MissingOf counts what is in both last and want, and not in have.
func MissingOf(last, want, have []Flow) int {
	there := make(map[Flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[Flow]bool, len(want))
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

// Size is that of the bundle.
func (c Change) Size() int {
	return len(c.Remove) + len(c.Add) + len(c.SetGroups) + len(c.RemoveGroups)
}

// Bundle is the input of "ovs-ofctl Bundle". Groups come before the flows that
// name them, and go after: a flow goes with its group.
func (c Change) Bundle() string {
	var b strings.Builder
	for _, g := range c.SetGroups {
		fmt.Fprintf(&b, "group add_or_mod group_id=%d,type=all%s\n", g.ID, g.Buckets)
	}
	for _, f := range c.Remove {
		fmt.Fprintf(&b, "flow delete_strict cookie=%#x/-1,%s\n", f.Cookie, f.Key())
	}
	for _, f := range c.Add {
		fmt.Fprintf(&b, "flow add %s\n", f)
	}
	for _, id := range c.RemoveGroups {
		fmt.Fprintf(&b, "group delete group_id=%d\n", id)
	}
	return b.String()
}

// parseGroups reads the text of dump-groups: those of type all, and how many others
// there are.
func parseGroups(text string) (groups []Group, others int, err error) {
	for line := range strings.Lines(text) {
		number, isGroup := strings.CutPrefix(strings.TrimSpace(line), "group_id=")
		if !isGroup {
			continue // the reply's headline
		}
		number, rest, _ := strings.Cut(number, ",")
		id, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			return nil, 0, fmt.Errorf("group %q: %w", line, err)
		}
		if buckets, isAll := strings.CutPrefix(rest, "type=all"); isAll {
			groups = append(groups, Group{uint32(id), buckets})
		} else {
			others++
		}
	}
	return groups, others, nil
}
