package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImportsPointDown holds the house's order: who may import which of ours.
func TestImportsPointDown(t *testing.T) {
	const module = "github.com/causeway-net/causeway/"
	allowed := map[string][]string{
		"fabric":               {},
		"kvstore":              {"internal/health", "kvstore/etcdserver"},
		"kvstore/etcdserver":   {"internal/health"},
		"records":              {"fabric", "kvstore"},
		"vxlan":                {"fabric", "internal/nl", "internal/gateway", "internal/health", "internal/portfilter"},
		"ovs":                  {"fabric", "internal/nl", "internal/forward", "internal/gateway", "internal/health", "internal/jsonrpc", "internal/openflow", "internal/portfilter", "internal/vswitch", "internal/vxlanport"},
		"routed":               {"fabric", "internal/nl", "internal/fastpath", "internal/gateway", "internal/health", "internal/portfilter"},
		"underlay":             {"fabric", "internal/nl", "internal/forward", "internal/addrprobe", "internal/echo", "internal/portfilter", "internal/tcpprobe", "nicmove"},
		"nicmove":              {"internal/nl", "internal/rtmsg", "internal/statefile"},
		"internal/rtmsg":       {},
		"internal/forward":     {"internal/nl"},
		"internal/gateway":     {"fabric", "internal/nl", "internal/forward", "internal/health"},
		"internal/addrprobe":   {"fabric", "internal/wire"},
		"internal/tcpprobe":    {"internal/nl", "internal/wire"},
		"internal/wire":        {"internal/nl"},
		"internal/lantest":     {"internal/nl"},
		"names":                {"fabric", "internal/nl", "internal/health"},
		"trust":                {},
		"join":                 {"trust"},
		"quorum":               {"fabric", "kvstore", "records", "internal/health"},
		"cluster":              {"fabric", "kvstore", "records", "trust", "join", "internal/health", "internal/statefile"},
		"internal/nl":          {"fabric"},
		"internal/plugin":      {},
		"internal/jsonrpc":     {},
		"internal/openflow":    {},
		"internal/vswitch":     {"fabric", "internal/nl", "internal/jsonrpc", "internal/openflow"},
		"internal/health":      {},
		"internal/faults":      {"fabric", "kvstore", "internal/plugin"},
		"internal/await":       {},
		"internal/grace":       {},
		"internal/pause":       {},
		"internal/loopback":    {},
		"internal/statefile":   {},
		"internal/storetest":   {"kvstore", "internal/await", "internal/loopback", "internal/trusttest"},
		"internal/trusttest":   {"trust", "internal/loopback"},
		"backup":               {"fabric", "kvstore", "records", "internal/health", "internal/statefile"},
		"internal/planetest":   {"fabric", "internal/await", "internal/nl", "internal/wire"},
		"membership":           {"fabric", "kvstore", "records", "internal/health", "internal/grace"},
		"reconcile":            {"fabric", "kvstore", "records", "reconcile/view", "internal/health", "internal/grace"},
		"reconcile/view":       {"fabric", "kvstore", "records", "internal/health"},
		"reconcile/collect":    {"fabric", "kvstore", "records", "reconcile/view", "internal/health", "internal/grace"},
		"internal/hosttest":    {"fabric", "kvstore", "records", "membership", "reconcile", "reconcile/collect", "internal/health"},
		"driver":               {"fabric", "kvstore", "records", "internal/plugin"},
		"ipam":                 {"fabric", "kvstore", "records", "internal/plugin"},
		"mirror":               {"internal/pause", "fabric", "kvstore", "records", "internal/grace", "internal/health", "mirror/containers", "mirror/engine", "mirror/table"},
		"mirror/containers":    {"fabric", "records", "internal/health", "mirror/engine", "mirror/table"},
		"mirror/engine":        {},
		"mirror/table":         {"kvstore"},
		"doctor":               {"internal/pause", "fabric", "kvstore", "records", "trust", "internal/health", "internal/hostfilter", "internal/nl", "internal/addrprobe", "internal/echo", "internal/sandbox", "internal/talk", "internal/tunnelprobe"},
		"internal/tunnelprobe": {"internal/addrprobe", "internal/wire"},
		"internal/echo":        {"internal/nl"},
		"internal/sandbox":     {"fabric", "internal/nl"},
		"trace":                {"fabric", "kvstore", "records", "internal/echo", "internal/nl", "internal/sandbox", "internal/wire"},
		"agent":                {"fabric", "doctor", "trace", "kvstore", "records", "names", "trust", "internal/plugin", "internal/faults", "internal/health", "internal/hostfilter", "internal/talk"},
		"lab":                  {},
		"test/bench":           {"test/bench/engines", "test/bench/report"},
		"test/bench/engines":   {"lab", "records", "internal/nl", "test/bench/report"},
		"test/bench/report":    {},
		"test/bench/scale":     {},
		"test/hammer":          {},
		"cmd/causeway-lab":     {"lab"},

		"internal/hostfilter": {"internal/nl"},
		"wireguard":           {"internal/pause", "fabric", "internal/nl", "internal/health", "internal/statefile"},
		"report":              {"agent"},
		"ui":                  {"internal/pause", "agent", "doctor", "fabric", "records", "internal/plugin", "internal/talk"},
		"internal/browser":    {"internal/await"},
		"metrics":             {"fabric", "doctor", "kvstore", "reconcile", "internal/health", "internal/hostfilter"},
		"internal/vxlanport":  {"fabric", "internal/nl"},
		"internal/portfilter": {"fabric", "internal/nl", "internal/tc"},
		"internal/fastpath":   {"fabric", "internal/nl", "internal/tc"},
		"internal/tc":         {"internal/nl"},
		"internal/talk":       {"internal/nl", "internal/pause", "internal/tc"},
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		names := strings.Fields(line)
		name := strings.TrimPrefix(names[0], module)
		permitted, known := allowed[name]
		if name == "cmd/causeway" || name == "test" {
			continue // they wire all together
		}
		if !known {
			t.Errorf("package %s has no place in the house yet", name)
		}
		for _, imported := range names[1:] {
			if ours, ok := strings.CutPrefix(imported, module); ok && !slices.Contains(permitted, ours) {
				t.Errorf("%s imports %s", name, ours)
			}
		}
	}
}
