package forward

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// nftChain is the FORWARD chain that iptables-nft keeps in nf_tables. The rule
// has the expressions that iptables-nft itself would write, so that
// `iptables -S FORWARD` shows it as
//
//	-A FORWARD -i BRIDGE -o BRIDGE -m physdev --physdev-is-bridged -m comment … -j ACCEPT
type nftChain struct {
	Rules
	conn   *nftables.Conn
	chain  *nftables.Chain
	family family
}

func (c *nftChain) String() string { return c.family.tool() + " (nf_tables)" }

func findNFTChain(r Rules, family family) (*nftChain, bool, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(r.NS)))
	if err != nil {
		return nil, false, fmt.Errorf("open nf_tables: %w", err)
	}
	c := &nftChain{Rules: r, conn: conn, family: family}
	found, err := c.find()
	return c, found, err
}

// find looks for the chain in the kernel.
func (c *nftChain) find() (found bool, err error) {
	table := [...]nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}[c.family]
	chains, err := c.conn.ListChainsOfTableFamily(table)
	if lacksNFT(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	for _, chain := range chains {
		if chain.Table.Name == "filter" && chain.Name == "FORWARD" {
			c.chain = chain
			return true, nil
		}
	}
	return false, nil
}

func (c *nftChain) accepted(context.Context) ([]string, error) {
	rules, err := c.rules()
	var bridges []string
	for _, rule := range rules {
		if bridge, ours := c.bridgeOf(rule); ours {
			bridges = append(bridges, bridge)
		}
	}
	return bridges, err
}

func (c *nftChain) rules() ([]*nftables.Rule, error) {
	rules, err := c.conn.GetRules(c.chain.Table, c.chain) // none of a chain that was deleted meanwhile
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
		&expr.Match{Name: "comment", Info: c.commentFor(bridge)},
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
		if found, ours := c.bridgeOf(rule); !ours || found != bridge {
			continue
		}
		err := c.conn.DelRule(rule)
		if err == nil {
			err = c.conn.Flush()
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete the rule of bridge %s from %s: %w", bridge, c, err)
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

func (c *nftChain) commentFor(bridge string) *xt.Comment {
	comment := xt.Comment(c.Comment + bridge)
	return &comment
}

// bridgeOf reads the bridge from the comment of a rule of ours.
func (c *nftChain) bridgeOf(rule *nftables.Rule) (bridge string, ours bool) {
	for _, e := range rule.Exprs {
		if match, ok := e.(*expr.Match); ok {
			if text, ok := match.Info.(*xt.Comment); ok {
				return strings.CutPrefix(string(*text), c.Comment)
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

// lacksNFT says of an error that the kernel has no nf_tables, and so no rules.
func lacksNFT(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}
