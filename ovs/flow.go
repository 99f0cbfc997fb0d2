package ovs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Cookies tell our flows from others', and one network's from another's.
const (
	cookieOurs = 0xca05e3a1_00000000
	cookieMask = 0xffffffff_00000000
)

// flow is one entry of the switch, in the words that "ovs-ofctl -O OpenFlow15
// --no-stats dump-flows" prints, so that what is wanted and what is there
// compare as they are.
type flow struct {
	cookie          uint64
	table, priority int
	match           string // empty matches everything
	actions         string
}

// key says which entry f is: a switch holds one flow for each.
func (f flow) key() string {
	key := fmt.Sprintf("table=%d,priority=%d", f.table, f.priority)
	if f.match != "" {
		key += "," + f.match
	}
	return key
}

func (f flow) String() string {
	return fmt.Sprintf("cookie=%#x,%s,actions=%s", f.cookie, f.key(), f.actions)
}

func compareFlows(a, b flow) int {
	return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(b.priority, a.priority), strings.Compare(a.match, b.match),
		strings.Compare(a.actions, b.actions), cmp.Compare(a.cookie, b.cookie))
}

// parseFlows reads the text of dump-flows.
func parseFlows(text string) ([]flow, error) {
	var flows []flow
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "actions=") {
			continue // the reply's headline
		}
		f, err := parseFlow(line)
		if err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, nil
}

func parseFlow(line string) (flow, error) {
	f := flow{priority: 32768} // the default, which is not printed
	head, actions, ok := strings.Cut(line, "actions=")
	if !ok {
		return flow{}, fmt.Errorf("flow %q has no actions", line)
	}
	f.actions = actions
	var match []string
	for _, field := range strings.FieldsFunc(head, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "cookie":
			f.cookie, err = strconv.ParseUint(value, 0, 64)
		case "table":
			f.table, err = strconv.Atoi(value)
		case "priority":
			f.priority, err = strconv.Atoi(value)
		// Flags and timeouts do not tell one entry from another.
		case "send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts",
			"idle_timeout", "hard_timeout", "importance":
		default:
			match = append(match, field)
		}
		if err != nil {
			return flow{}, fmt.Errorf("flow %q: %w", line, err)
		}
	}
	f.match = strings.Join(match, ",")
	return f, nil
}

// change makes the switch's flows another set, in one bundle.
type change struct {
	remove, add []flow
}

// changeOf gives the change from have to want. Adding a flow replaces the one
// with its key, so only keys that are wanted no more are removed.
func changeOf(have, want []flow) change {
	var c change
	there := make(map[flow]bool, len(have))
	for _, f := range have {
		there[f] = true
	}
	wanted := make(map[string]bool, len(want))
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

func (c change) size() int { return len(c.remove) + len(c.add) }

// bundle is the input of "ovs-ofctl --bundle add-flows".
func (c change) bundle() string {
	var b strings.Builder
	for _, f := range c.remove {
		fmt.Fprintf(&b, "delete_strict cookie=%#x/-1,%s\n", f.cookie, f.key())
	}
	for _, f := range c.add {
		fmt.Fprintf(&b, "add %s\n", f)
	}
	return b.String()
}
