package forward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// nftChain is the FORWARD chain that iptables-nft keeps in nf_tables. The rules
// have the expressions that iptables-nft itself would write, so that
// `iptables -S FORWARD` shows them as
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

func (c *nftChain) present(context.Context) ([]string, error) {
	rules, err := c.rules()
	var names []string
	for _, rule := range rules {
		if name, ours := c.nameOf(rule); ours {
			names = append(names, name)
		}
	}
	return names, err
}

func (c *nftChain) has(_ context.Context, name string) (bool, error) {
	chains, err := c.conn.ListChainsOfTableFamily(c.chain.Table.Family)
	if err != nil {
		return false, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	return slices.ContainsFunc(chains, func(chain *nftables.Chain) bool {
		return chain.Table.Name == c.chain.Table.Name && chain.Name == name
	}), nil
}

func (c *nftChain) rules() ([]*nftables.Rule, error) {
	rules, err := c.conn.GetRules(c.chain.Table, c.chain) // none of a chain that was deleted meanwhile
	if err != nil {
		return nil, fmt.Errorf("list the rules of %s: %w", c, err)
	}
	return rules, nil
}

func (c *nftChain) add(_ context.Context, wanted rule) error {
	rules, err := c.rules()
	if err != nil {
		return err
	}
	rule := &nftables.Rule{Table: c.chain.Table, Chain: c.chain, Exprs: c.expressions(wanted)}
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

// expressions are those of a rule.
func (c *nftChain) expressions(rule rule) []expr.Any {
	var exprs []expr.Any
	name := func(key expr.MetaKey, name string) {
		if name == "" {
			return
		}
		data, beginning := strings.CutSuffix(name, "+")
		if !beginning {
			data += "\x00"
		}
		exprs = append(exprs, &expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(data)})
	}
	name(expr.MetaKeyIIFNAME, rule.in)
	name(expr.MetaKeyOIFNAME, rule.out)
	if rule.bridged {
		exprs = append(exprs, &expr.Match{Name: "physdev", Info: isBridged()})
	}
	verdict := &expr.Verdict{Kind: expr.VerdictAccept}
	if rule.target != "" {
		exprs = append(exprs, &expr.Match{Name: "conntrack", Rev: 3, Info: notPublished()})
		verdict = &expr.Verdict{Kind: expr.VerdictJump, Chain: rule.target}
	}
	return append(exprs, &expr.Match{Name: "comment", Info: c.commentFor(rule.name)}, &expr.Counter{}, verdict)
}

// notPublished is ! --ctstate DNAT.
func notPublished() *xt.ConntrackMtinfo3 {
	const state, alias, destinationNAT = 1 << 0, 1 << 13, 1 << 7 // XT_CONNTRACK_STATE, …_STATE_ALIAS, …_STATE_DNAT
	var info xt.ConntrackMtinfo3
	info.MatchFlags, info.InvertFlags, info.StateMask = state|alias, state, destinationNAT
	return &info
}

func (c *nftChain) remove(_ context.Context, name string) error {
	rules, err := c.rules()
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if found, ours := c.nameOf(rule); !ours || found != name {
			continue
		}
		err := c.conn.DelRule(rule)
		if err == nil {
			err = c.conn.Flush()
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("delete the rule for %s from %s: %w", name, c, err)
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

func (c *nftChain) commentFor(name string) *xt.Comment {
	comment := xt.Comment(c.Comment + name)
	return &comment
}

// nameOf reads the name of a rule of ours from its comment.
func (c *nftChain) nameOf(rule *nftables.Rule) (name string, ours bool) {
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
