package underlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
)

// namedRule is a rule of the host's firewall that names a NIC: what comes in
// through the NIC is the bridge's after the move, and such a rule misses it. A
// host whose policy is DROP would lose itself to its own firewall.
type namedRule struct {
	text string
	// translates says that it is one of NAT, which no way into the host depends on.
	translates bool
}

// naming is what rules are searched for.
type naming struct {
	nic    device
	bridge string
}

// matches says whether an interface's name in a rule means the NIC and not the
// bridge; one that goes on is the beginning of names (eth+, "eth*").
func (n naming) matches(name string, goesOn bool) bool {
	if goesOn {
		return strings.HasPrefix(n.nic.name, name) && !strings.HasPrefix(n.bridge, name)
	}
	return name == n.nic.name
}

// rulesNaming lists the rules that name the NIC, but for those beside which the
// same rule is there for the bridge: somebody has prepared for the move.
func (f firewall) rulesNaming(ctx context.Context, n naming) ([]namedRule, error) {
	found, err := nftRulesNaming(f.ns, n)
	errs := []error{err}
	for _, family := range []family{ipv4, ipv6} {
		tables, err := legacyTables(f.ns, family)
		errs = append(errs, err)
		for _, table := range tables {
			c := &legacyChain{family: family, ns: f.ns}
			rules, err := c.run(ctx, "-t", table, "-S")
			errs = append(errs, err)
			for _, rule := range n.inText(rules) {
				text := fmt.Sprintf("%s -t %s %s", c.family.tool(), table, rule)
				found = append(found, namedRule{text: text, translates: table == "nat"})
			}
		}
	}
	return found, errors.Join(errs...)
}

// inText gives the lines of `iptables -S` that name the NIC.
func (n naming) inText(rules string) []string {
	lines := strings.Split(strings.TrimSpace(rules), "\n")
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		words := strings.Fields(line)
		named := false
		for i, word := range words {
			if i == 0 || words[i-1] != "-i" && words[i-1] != "-o" {
				continue
			}
			name, goesOn := strings.CutSuffix(word, "+")
			if n.matches(name, goesOn) {
				words[i], named = n.bridge, true
			}
		}
		return !named || slices.Contains(lines, strings.Join(words, " "))
	})
}

// legacyTables lists the tables of the ip_tables that came before nf_tables.
func legacyTables(ns netns.NsHandle, family family) (names []string, err error) {
	err = inNamespace(ns, func() error {
		text, err := os.ReadFile("/proc/thread-self/net/" + family.legacyNames())
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		names = strings.Fields(string(text))
		return err
	})
	return names, err
}

// interfaceName reads a name of at most IFNAMSIZ bytes: without a zero at its
// end it is the beginning of names.
func interfaceName(raw []byte) (name string, goesOn bool) {
	before, _, ends := bytes.Cut(raw, []byte{0})
	return string(before), !ends
}
