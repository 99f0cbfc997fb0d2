// Package forward lets what causeway carries pass the host's own firewall.
//
// Docker's policy in the host's FORWARD chain is DROP. A drop is final: no table of our
// own can undo it. So what is to pass gets rules in FORWARD itself (rule.go). They stand
// behind DOCKER-USER, so that a user's rules come first. Where there is no FORWARD chain,
// nothing drops. Two things are let through:
//
//   - Frames that a bridge forwards, which with br_netfilter
//     (net.bridge.bridge-nf-call-iptables) go through FORWARD as if they were routed: what
//     is bridged from one port of the bridge to another, and nothing that is routed.
//   - Packets from and to the networks' gateways. What must not pass was dropped before, by
//     the table of package gateway, but for what would enter one of Docker's bridges:
//     Docker's own chain judges that, as for its other bridges.
//
// A rule's path: [Rules.Open] and [Rules.OpenRouted] list the FORWARD chains, of IPv4 and
// IPv6, of nf_tables (nft.go) and of the ip_tables before it (legacy.go), and add the
// rules where they are missing; [Rules.CloseAllBut] deletes the others.
package forward

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Rules are ours in the FORWARD chains of one network namespace.
type Rules struct {
	NS netns.NsHandle
	// Comment begins their comment; what the rule lets through follows.
	Comment string
}

// timeout bounds each method: iptables waits for a lock that others hold.
const timeout = 5 * time.Second

// chain is one FORWARD chain of the host: of a family and of an implementation.
type chain interface {
	// present names our rules, once for each.
	present(ctx context.Context) ([]string, error)
	// add inserts a rule behind DOCKER-USER.
	add(ctx context.Context, rule rule) error
	// remove deletes one rule of that name.
	remove(ctx context.Context, name string) error
	// has says whether the table has another chain of that name.
	has(ctx context.Context, name string) (bool, error)
	String() string
}

// Open has the bridge's rule in each chain that sees bridged frames, and counts
// those that it had to add.
func (r Rules) Open(ctx context.Context, bridge string) (added int, err error) {
	return r.open(ctx, seeBridged, func(context.Context, chain) ([]rule, error) { return []rule{ruleNamed(bridge)}, nil })
}

// OpenRouted has the rules of the interfaces whose names begin with prefix in each chain,
// and counts those that it had to add.
func (r Rules) OpenRouted(ctx context.Context, prefix string) (added int, err error) {
	return r.open(ctx, allThere, func(ctx context.Context, c chain) ([]rule, error) { return routed(ctx, c, prefix) })
}

func (r Rules) open(ctx context.Context, which which, rules func(context.Context, chain) ([]rule, error)) (added int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	chains, err := r.chains(which)
	if err != nil {
		return 0, err
	}
	for _, c := range chains {
		count, err := setRight(ctx, c, rules)
		added += count
		if err != nil {
			return added, fmt.Errorf("let packets through %s: %w", c, err)
		}
	}
	return added, nil
}

// setRight has the rules in their order, and counts those that it had to add.
func setRight(ctx context.Context, c chain, rules func(context.Context, chain) ([]rule, error)) (added int, err error) {
	wanted, err := rules(ctx, c)
	if err != nil {
		return 0, err
	}
	have, err := c.present(ctx)
	if err != nil || inPlace(have, wanted) {
		return 0, err
	}
	for _, name := range have {
		if ruleNamed(name).subject() != wanted[0].subject() {
			continue
		}
		if err := c.remove(ctx, name); err != nil {
			return 0, err
		}
		added-- // it comes back
	}
	for _, rule := range slices.Backward(wanted) { // each is inserted before those that are there
		if err := c.add(ctx, rule); err != nil {
			return added, fmt.Errorf("add the rule for %s: %w", rule.name, err)
		}
		added++
	}
	return max(added, 1), nil
}

// inPlace says whether the rules present are those wanted of their subject, in order.
func inPlace(present []string, wanted []rule) bool {
	present = slices.DeleteFunc(slices.Clone(present), func(name string) bool {
		return ruleNamed(name).subject() != wanted[0].subject()
	})
	return slices.EqualFunc(present, wanted, func(name string, rule rule) bool { return name == rule.name })
}

// CloseAllBut deletes our rules for all bridges but those to keep.
func (r Rules) CloseAllBut(ctx context.Context, keep map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	chains, err := r.chains(allThere)
	errs := []error{err}
	for _, c := range chains {
		have, err := c.present(ctx)
		if errors.Is(err, errNoTool) {
			continue // nor was it there to make a rule
		}
		errs = append(errs, err)
		for _, name := range have {
			if !keep[name] {
				errs = append(errs, c.remove(ctx, name))
			}
		}
	}
	return errors.Join(errs...)
}

// Missing reads the nft chains, and says of a bridge whether one of them lacks its
// rule. A legacy chain takes a process to read, and announces no change:
// [Rules.Open] looks there.
func (r Rules) Missing(ctx context.Context) func(bridge string) bool {
	var have [][]string
	for _, c := range r.quick(seeBridged) {
		if names, err := c.present(ctx); err == nil {
			have = append(have, names)
		}
	}
	return func(bridge string) bool {
		return slices.ContainsFunc(have, func(names []string) bool { return !slices.Contains(names, bridge) })
	}
}

// MissingRouted is Missing for the rules of [Rules.OpenRouted].
func (r Rules) MissingRouted(ctx context.Context, prefix string) bool {
	return slices.ContainsFunc(r.quick(allThere), func(c chain) bool {
		wanted, err := routed(ctx, c, prefix)
		if err != nil {
			return false
		}
		have, err := c.present(ctx)
		return err == nil && !inPlace(have, wanted)
	})
}

// quick gives the chains that can be read without a process.
func (r Rules) quick(which which) []chain {
	chains, err := r.chains(which)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(chains, func(c chain) bool {
		_, nft := c.(*nftChain)
		return !nft
	})
}

// Watch calls changed at its start and when anything of nf_tables has changed, with the
// kernel's messages, until ctx ends. There are none at the start, and when some were lost.
func (r Rules) Watch(ctx context.Context, changed func([]netlink.Message)) error {
	const groups = 1 << (unix.NFNLGRP_NFTABLES - 1)
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(r.NS), Groups: groups})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		<-ctx.Done() // a kernel without nf_tables
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("watch nf_tables: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var messages []netlink.Message
	for {
		changed(messages)
		messages, err = conn.Receive()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, unix.ENOBUFS) {
			messages = nil
		} else if err != nil {
			return fmt.Errorf("watch nf_tables: %w", errors.Join(err, conn.Close()))
		}
	}
}

// which of the host's FORWARD chains are meant.
type which bool

const (
	allThere   which = false
	seeBridged which = true // those that bridged frames pass now
)

// chains lists the FORWARD chains of the host.
func (r Rules) chains(which which) ([]chain, error) {
	var found []chain
	err := nl.Do(r.NS, func() error {
		for _, family := range []family{ipv4, ipv6} {
			if which == seeBridged && setting("bridge/bridge-nf-call-"+family.tool()) != "1" {
				continue
			}
			if legacyInUse(family) {
				found = append(found, &legacyChain{Rules: r, family: family})
			}
			nft, there, err := findNFTChain(r, family)
			if err != nil {
				return err
			}
			if there {
				found = append(found, nft)
			}
		}
		return nil
	})
	return found, err
}

// legacyInUse says whether the namespace of the thread has a filter table of
// the ip_tables that came before nf_tables.
func legacyInUse(family family) bool {
	names, err := os.ReadFile("/proc/thread-self/net/" + family.legacyNames())
	return err == nil && slices.Contains(strings.Fields(string(names)), "filter")
}

// setting reads a value below /proc/sys/net as the thread's namespace has it;
// empty where there is none.
func setting(path string) string {
	text, err := os.ReadFile("/proc/sys/net/" + path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// family is what iptables has a program of its own for.
type family int

const (
	ipv4 family = iota
	ipv6
)

func (f family) tool() string { return [...]string{"iptables", "ip6tables"}[f] }

func (f family) legacyNames() string { return [...]string{"ip_tables_names", "ip6_tables_names"}[f] }
