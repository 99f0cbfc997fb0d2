// Package forward lets frames that a bridge forwards pass the host's own firewall.
//
// With br_netfilter (net.bridge.bridge-nf-call-iptables), such frames go through
// the host's FORWARD chain as if they were routed, and Docker's policy there is
// DROP. A drop is final: no table of our own can undo it. So each bridge in use
// gets one rule in FORWARD itself, which accepts what is bridged from one of its
// ports to another, and nothing that is routed. It stands behind DOCKER-USER, so
// that a user's rules come first. Where there is no FORWARD chain, nothing drops.
//
// A rule's path: [Rules.Open] lists the FORWARD chains, of IPv4 and IPv6, of
// nf_tables (nft.go) and of the ip_tables before it (legacy.go), and adds the
// rule where it is missing; [Rules.CloseAllBut] deletes those of other bridges.
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
	// Comment begins their comment; the bridge's name follows.
	Comment string
}

// timeout bounds each method: iptables waits for a lock that others hold.
const timeout = 5 * time.Second

// chain is one FORWARD chain of the host: of a family and of an implementation.
type chain interface {
	// accepted lists the bridges with a rule of ours, once for each rule.
	accepted(ctx context.Context) ([]string, error)
	accept(ctx context.Context, bridge string) error
	// revoke deletes one rule of ours for the bridge.
	revoke(ctx context.Context, bridge string) error
	String() string
}

// Open has the bridge's rule in each chain that sees bridged frames, and counts
// those that it had to add.
func (r Rules) Open(ctx context.Context, bridge string) (added int, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	chains, err := r.chains(seeBridged)
	if err != nil {
		return 0, err
	}
	for _, c := range chains {
		have, err := c.accepted(ctx)
		if err == nil && !slices.Contains(have, bridge) {
			added++
			err = c.accept(ctx, bridge)
		}
		if err != nil {
			return added, fmt.Errorf("let bridge %s through %s: %w", bridge, c, err)
		}
	}
	return added, nil
}

// CloseAllBut deletes our rules for all bridges but those to keep.
func (r Rules) CloseAllBut(ctx context.Context, keep map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	chains, err := r.chains(allThere)
	errs := []error{err}
	for _, c := range chains {
		have, err := c.accepted(ctx)
		if errors.Is(err, errNoTool) {
			continue // nor was it there to make a rule
		}
		errs = append(errs, err)
		for _, bridge := range have {
			if !keep[bridge] {
				errs = append(errs, c.revoke(ctx, bridge))
			}
		}
	}
	return errors.Join(errs...)
}

// Missing reads the nft chains, and says of a bridge whether one of them lacks its
// rule. A legacy chain takes a process to read, and announces no change:
// [Rules.Open] looks there.
func (r Rules) Missing(ctx context.Context) func(bridge string) bool {
	chains, err := r.chains(seeBridged)
	if err != nil {
		return func(string) bool { return false }
	}
	var accepted [][]string
	for _, c := range chains {
		if _, quick := c.(*nftChain); !quick {
			continue
		}
		if have, err := c.accepted(ctx); err == nil {
			accepted = append(accepted, have)
		}
	}
	return func(bridge string) bool {
		return slices.ContainsFunc(accepted, func(have []string) bool { return !slices.Contains(have, bridge) })
	}
}

// Watch calls changed at its start, and when any rule of nf_tables has changed, until
// ctx ends.
func (r Rules) Watch(ctx context.Context, changed func()) error {
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
	for {
		changed()
		_, err := conn.Receive()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // else some were lost
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
