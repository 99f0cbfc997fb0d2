package underlay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// nftChain is the FORWARD chain that iptables-nft keeps in nf_tables. The rule
// has the expressions that iptables-nft itself would write, so that
// `iptables -S FORWARD` shows it as
//
//	-A FORWARD -i BRIDGE -o BRIDGE -m physdev --physdev-is-bridged -m comment … -j ACCEPT
type nftChain struct {
	conn   *nftables.Conn
	chain  *nftables.Chain
	family family
}

func (c *nftChain) String() string { return c.family.tool() + " (nf_tables)" }

func findNFTChain(ns netns.NsHandle, family family) (*nftChain, bool, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)))
	if err != nil {
		return nil, false, fmt.Errorf("open nf_tables: %w", err)
	}
	table := [...]nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}[family]
	chains, err := conn.ListChainsOfTableFamily(table)
	if lacksNFT(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name == "filter" && chain.Name == "FORWARD" {
			return &nftChain{conn: conn, chain: chain, family: family}, true, nil
		}
	}
	return nil, false, nil
}

func (c *nftChain) accepted(context.Context) ([]string, error) {
	rules, err := c.rules()
	var bridges []string
	for _, rule := range rules {
		if bridge, ours := ruleBridge(rule); ours {
			bridges = append(bridges, bridge)
		}
	}
	return bridges, err
}

func (c *nftChain) rules() ([]*nftables.Rule, error) {
	rules, err := c.conn.GetRules(c.chain.Table, c.chain)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // the chain went meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("list the rules of %s: %w", c, err)
	}
	return rules, nil
}

func (c *nftChain) accept(_ context.Context, bridge string) error {
	rules, err := c.rules()
	if err != nil {
		return err
	}
	rule := &nftables.Rule{Table: c.chain.Table, Chain: c.chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(bridge), 0)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(bridge), 0)},
		&expr.Match{Name: "physdev", Info: isBridged()},
		&expr.Match{Name: "comment", Info: commentFor(bridge)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}}
	for _, other := range rules {
		if jumpsTo(other, "DOCKER-USER") {
			rule.Position = other.Handle
		}
	}
	if rule.Position != 0 {
		c.conn.AddRule(rule)
	} else {
		c.conn.InsertRule(rule)
	}
	return c.conn.Flush()
}

func (c *nftChain) revoke(_ context.Context, bridge string) error {
	rules, err := c.rules()
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if found, ours := ruleBridge(rule); !ours || found != bridge {
			continue
		}
		err := c.conn.DelRule(rule)
		if err == nil {
			err = c.conn.Flush()
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the rule of bridge %s from %s: %w", bridge, c, err)
		}
		return nil
	}
	return nil
}

// isBridged is struct xt_physdev_info of --physdev-is-bridged: four names, and
// one byte each for what is inverted and what is asked.
func isBridged() *xt.Unknown {
	const names, isBridged = 4 * unix.IFNAMSIZ, 0x04 // XT_PHYSDEV_OP_BRIDGED
	info := make(xt.Unknown, names+8)                // 66 bytes, aligned to 8
	info[names+1] = isBridged
	return &info
}

func commentFor(bridge string) *xt.Comment {
	c := xt.Comment(comment + bridge)
	return &c
}

// ruleBridge reads the bridge from the comment of a rule of ours.
func ruleBridge(rule *nftables.Rule) (bridge string, ours bool) {
	for _, e := range rule.Exprs {
		if match, ok := e.(*expr.Match); ok {
			if text, ok := match.Info.(*xt.Comment); ok {
				return strings.CutPrefix(string(*text), comment)
			}
		}
	}
	return "", false
}

func jumpsTo(rule *nftables.Rule, chain string) bool {
	for _, e := range rule.Exprs {
		if verdict, ok := e.(*expr.Verdict); ok && verdict.Kind == expr.VerdictJump && verdict.Chain == chain {
			return true
		}
	}
	return false
}
