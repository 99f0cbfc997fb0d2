package underlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lacksNFT says of an error that the kernel has no nf_tables, and so no rules.
func lacksNFT(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// nftRulesNaming reads all tables that packets for the host pass, whoever made them.
func nftRulesNaming(ns netns.NsHandle, n naming) ([]namedRule, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	chains, err := conn.ListChains()
	if lacksNFT(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	names := map[nftables.TableFamily]string{
		nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
	}
	var found []namedRule
	for _, chain := range chains {
		family, ours := names[chain.Table.Family]
		if !ours {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("list the rules of %s %s %s: %w", family, chain.Table.Name, chain.Name, err)
		}
		for _, number := range n.inNFT(conn, rules) {
			found = append(found, namedRule{
				text:       fmt.Sprintf("rule %d of chain %s in table %s %s", number, chain.Name, family, chain.Table.Name),
				translates: chain.Type == nftables.ChainTypeNAT || chain.Table.Name == "nat",
			})
		}
	}
	return found, nil
}

// inNFT gives the numbers of the chain's rules that name the NIC.
func (n naming) inNFT(conn *nftables.Conn, rules []*nftables.Rule) (numbers []int) {
	texts := make([]string, len(rules))
	for i, rule := range rules {
		texts[i], _ = naming{}.rewrite(conn, rule)
	}
	for i, rule := range rules {
		if twin, named := n.rewrite(conn, rule); named && !slices.Contains(texts, twin) {
			numbers = append(numbers, i+1)
		}
	}
	return numbers
}

// rewrite gives what the rule does, as text to compare, with the bridge in the
// NIC's place, and says whether the NIC is named. A rule first loads the name or
// index of an interface into a register, and then compares it or looks it up.
func (n naming) rewrite(conn *nftables.Conn, rule *nftables.Rule) (text string, named bool) {
	var b strings.Builder
	loaded := make(map[uint32]expr.MetaKey)
	for _, e := range rule.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
			continue
		case *expr.Meta:
			if !e.SourceRegister {
				loaded[e.Register] = e.Key
			}
		case *expr.Payload:
			delete(loaded, e.DestRegister)
		case *expr.Cmp:
			if value, is := n.value(loaded[e.Register], e.Data); value != "" {
				if is {
					value, named = n.bridge, true
				}
				fmt.Fprintf(&b, "%d %s\n", e.Op, value)
				continue
			}
		case *expr.Lookup:
			if n.inSet(conn, rule.Table, e.SetName, loaded[e.SourceRegister]) {
				b.WriteString("a set that no rule has\n")
				named = true
			}
		}
		raw, err := expr.Marshal(byte(rule.Table.Family), e)
		fmt.Fprintf(&b, "%T %x %v\n", e, raw, err)
	}
	return b.String(), named
}

// value reads what an interface is compared with: its name, or its index, and
// says whether that is the NIC. It is empty for what is no interface.
func (n naming) value(key expr.MetaKey, data []byte) (value string, is bool) {
	switch key {
	case expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME:
		name, goesOn := interfaceName(data)
		if goesOn {
			return name + "*", n.matches(name, true)
		}
		return name, n.matches(name, false)
	case expr.MetaKeyIIF, expr.MetaKeyOIF:
		if len(data) == 4 {
			index := binary.NativeEndian.Uint32(data)
			return fmt.Sprint("index ", index), index == uint32(n.nic.index)
		}
	}
	return "", false
}

// inSet looks for the NIC in a set, a map or the beginning of a concatenation;
// one that has the bridge as well will do for it.
func (n naming) inSet(conn *nftables.Conn, table *nftables.Table, set string, key expr.MetaKey) bool {
	size, ok := map[expr.MetaKey]int{
		expr.MetaKeyIIFNAME: unix.IFNAMSIZ, expr.MetaKeyOIFNAME: unix.IFNAMSIZ, expr.MetaKeyIIF: 4, expr.MetaKeyOIF: 4,
	}[key]
	if !ok {
		return false
	}
	elements, err := conn.GetSetElements(&nftables.Set{Table: table, Name: set})
	if err != nil {
		return false
	}
	found := false
	for _, element := range elements {
		value, is := n.value(key, element.Key[:min(len(element.Key), size)])
		if value == n.bridge {
			return false
		}
		found = found || is
	}
	return found
}
