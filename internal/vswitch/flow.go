package vswitch

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Flow is one entry of the switch, in the words that "ovs-ofctl -O OpenFlow15
// --no-stats dump-flows" prints, so that what is wanted and what is there
// compare as they are.
type Flow struct {
	Cookie          uint64
	Table, Priority int
	Match           string // empty matches everything
	Actions         string
}

// FlowKey says which entry of the switch a flow is: there is one for each key.
type FlowKey struct {
	table, priority int
	match           string
}

func (f Flow) Key() FlowKey { return FlowKey{f.Table, f.Priority, f.Match} }

func (k FlowKey) String() string {
	text := fmt.Sprintf("table=%d,priority=%d", k.table, k.priority)
	if k.match != "" {
		text += "," + k.match
	}
	return text
}

// Unique keeps the first flow of each key.
func Unique(flows []Flow) []Flow {
	seen := make(map[FlowKey]bool, len(flows))
	return slices.DeleteFunc(flows, func(f Flow) bool {
		again := seen[f.Key()]
		seen[f.Key()] = true
		return again
	})
}

func (f Flow) String() string {
	return fmt.Sprintf("cookie=%#x,%s,actions=%s", f.Cookie, f.Key(), f.Actions)
}

func CompareFlows(a, b Flow) int {
	return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), strings.Compare(a.Match, b.Match),
		strings.Compare(a.Actions, b.Actions), cmp.Compare(a.Cookie, b.Cookie))
}

// parseFlows reads the text of dump-flows.
func parseFlows(text string) ([]Flow, error) {
	var flows []Flow
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

func parseFlow(line string) (Flow, error) {
	f := Flow{Priority: 32768} // the default, which is not printed
	head, actions, ok := strings.Cut(line, "actions=")
	if !ok {
		return Flow{}, fmt.Errorf("flow %q has no actions", line)
	}
	f.Actions = actions
	var match []string
	for _, field := range strings.FieldsFunc(head, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "cookie":
			f.Cookie, err = strconv.ParseUint(value, 0, 64)
		case "table":
			f.Table, err = strconv.Atoi(value)
		case "priority":
			f.Priority, err = strconv.Atoi(value)
		// Flags, timeouts and counters do not tell one entry from another.
		case "send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts",
			"idle_timeout", "hard_timeout", "importance", "duration", "n_packets", "n_bytes", "idle_age", "hard_age":
		default:
			match = append(match, field)
		}
		if err != nil {
			return Flow{}, fmt.Errorf("flow %q: %w", line, err)
		}
	}
	f.Match = strings.Join(match, ",")
	return f, nil
}
