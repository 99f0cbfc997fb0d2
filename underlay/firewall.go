package underlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netns"
)

// firewall lets frames that a bridge forwards pass the host's own rules.
//
// With br_netfilter (net.bridge.bridge-nf-call-iptables), such frames go through
// the host's FORWARD chain as if they were routed, and Docker's policy there is
// DROP. A drop is final: no table of our own can undo it. So each bridge in use
// gets one rule in FORWARD itself, which accepts what is bridged from one of its
// ports to another, and nothing that is routed. It stands behind DOCKER-USER, so
// that a user's rules come first. Where FORWARD is not there, nothing drops.
type firewall struct {
	ns netns.NsHandle
}

// chain is one FORWARD chain of the host: of a family and of an implementation.
type chain interface {
	// accepted lists the bridges with a rule of ours, once for each rule.
	accepted(ctx context.Context) ([]string, error)
	accept(ctx context.Context, bridge string) error
	// revoke removes one rule of ours for the bridge.
	revoke(ctx context.Context, bridge string) error
	String() string
}

// comment is what our rules bear, ahead of the bridge's name.
const comment = "causeway underlay "

// open has bridge's rule in each chain that sees bridged frames, and counts
// those that had to be added.
func (f firewall) open(ctx context.Context, bridge string) (added int, err error) {
	chains, err := f.chains(seeBridged)
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

// closeBut removes our rules for all bridges but those to keep.
func (f firewall) closeBut(ctx context.Context, keep map[string]bool) error {
	chains, err := f.chains(allThere)
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

// isOpen says that no nft chain lacks the rule of one of the bridges. A legacy
// chain takes a process to read, too much for what is asked every two seconds.
func (f firewall) isOpen(ctx context.Context, bridges map[string]bool) bool {
	chains, err := f.chains(seeBridged)
	if err != nil {
		return true
	}
	for _, c := range chains {
		if _, quick := c.(*nftChain); !quick {
			continue
		}
		have, err := c.accepted(ctx)
		for bridge := range bridges {
			if err == nil && !slices.Contains(have, bridge) {
				return false
			}
		}
	}
	return true
}

// which says which of the host's FORWARD chains are meant.
type which bool

const (
	allThere   which = false
	seeBridged which = true // those that bridged frames pass now
)

// chains lists the FORWARD chains of the host.
func (f firewall) chains(which which) ([]chain, error) {
	var found []chain
	err := inNamespace(f.ns, func() error {
		for _, family := range []family{ipv4, ipv6} {
			if which == seeBridged && setting("bridge/bridge-nf-call-"+family.tool()) != "1" {
				continue
			}
			if f.legacyInUse(family) {
				found = append(found, &legacyChain{family: family, ns: f.ns})
			}
			nft, there, err := findNFTChain(f.ns, family)
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
func (f firewall) legacyInUse(family family) bool {
	names, err := os.ReadFile("/proc/thread-self/net/" + family.legacyNames())
	return err == nil && slices.Contains(strings.Fields(string(names)), "filter")
}

// setting reads a value below /proc/sys/net as the thread's namespace has it;
// empty where there is none.
func setting(path string) string {
	text, err := os.ReadFile(settingsRoot + "/" + path)
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
