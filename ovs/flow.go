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

// flowKey says which entry of the switch a flow is: there is one for each key.
type flowKey struct {
	table, priority int
	match           string
}

func (f flow) key() flowKey { return flowKey{f.table, f.priority, f.match} }

func (k flowKey) String() string {
	text := fmt.Sprintf("table=%d,priority=%d", k.table, k.priority)
	if k.match != "" {
		text += "," + k.match
	}
	return text
}

// unique keeps the first flow of each key.
func unique(flows []flow) []flow {
	seen := make(map[flowKey]bool, len(flows))
	return slices.DeleteFunc(flows, func(f flow) bool {
		again := seen[f.key()]
		seen[f.key()] = true
		return again
	})
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
