package doctor

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// firewall looks for chains of other programs that drop what is forwarded. What iptables
// has in FORWARD, Docker's own drop too, causeway passes by rules of its own; a drop in
// another table none of these can undo.
func firewall(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil || !slices.ContainsFunc(segments, isForwarded) {
		return nil, err
	}
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	conn, err := nftables.New(nftables.WithNetNSFd(int(host.NS())))
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list the chains of nf_tables: %w", err)
	}
	var found []Finding
	for _, chain := range chains {
		if !dropsForwarded(chain) {
			continue
		}
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			return found, fmt.Errorf("list the rules of table %s: %w", chain.Table.Name, err)
		}
		if knowUs(rules) {
			continue
		}
		found = append(found, Finding{
			Severity: Warning, Scope: thisHost,
			Cause:    fmt.Sprintf("Another program's chain %s drops what is forwarded: containers may not get out of their networks by this host.", chain.Name),
			Evidence: fmt.Sprintf("table %s, chain %s: hook forward, policy drop, and no rule of it names an interface of causeway (nft list ruleset)", chain.Table.Name, chain.Name),
			Remedy:   `Let packets from and to the networks' interfaces through there: iifname "cw*" accept and oifname "cw*" accept; what must not pass is dropped by causeway's own tables.`,
		})
	}
	return found, nil
}

// isForwarded says whether a network's packets go through this host's FORWARD.
func isForwarded(segment fabric.Segment) bool {
	n := segment.Network
	return n.Mode == fabric.ModeRouted || n.Mode != fabric.ModeUnderlay && !n.Internal && !n.DockerGateway
}

// dropsForwarded says whether a chain that is neither ours, Docker's nor iptables' drops
// what no rule accepts.
func dropsForwarded(chain *nftables.Chain) bool {
	ours := strings.HasPrefix(chain.Table.Name, "causeway-") || strings.HasPrefix(chain.Table.Name, "docker")
	iptables := chain.Table.Name == "filter" && chain.Name == "FORWARD"
	return !ours && !iptables && chain.Hooknum != nil && *chain.Hooknum == *nftables.ChainHookForward &&
		chain.Table.Family != nftables.TableFamilyBridge && chain.Table.Family != nftables.TableFamilyARP &&
		chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop
}

// knowUs says whether a rule names interfaces of causeway, whose names begin with cw.
func knowUs(rules []*nftables.Rule) bool {
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if compare, ok := e.(*expr.Cmp); ok && bytes.HasPrefix(compare.Data, []byte("cw")) {
				return true
			}
		}
	}
	return false
}
