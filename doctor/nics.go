package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// nics are the parents of this host's underlay networks that carry nothing.
func nics(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	parents := make(map[string][]string) // the names of their networks
	for _, segment := range segments {
		if n := segment.Network; n.Mode == fabric.ModeUnderlay && n.Parent != "" {
			parents[n.Parent] = append(parents[n.Parent], n.Label())
		}
	}
	if len(parents) == 0 {
		return nil, nil
	}
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	var found []Finding
	for _, parent := range slices.Sorted(maps.Keys(parents)) {
		link, err := host.Link(parent)
		if err != nil && !errors.Is(err, nl.ErrNotFound) {
			return found, err
		}
		cause := ""
		switch {
		case err != nil:
			cause = fmt.Sprintf("The NIC %s is gone: its containers reach nobody outside this host.", parent)
		case link.Attrs().RawFlags&unix.IFF_UP == 0:
			cause = fmt.Sprintf("The NIC %s is down: its containers reach nobody outside this host.", parent)
		case link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0:
			cause = fmt.Sprintf("The NIC %s has no carrier: its containers reach nobody outside this host.", parent)
		default:
			continue
		}
		found = append(found, Finding{
			Severity: Problem, Scope: "this host", Cause: cause,
			Evidence: fmt.Sprintf("network %s has it as its parent (ip link show %s)", few(parents[parent]), parent),
			Remedy:   fmt.Sprintf("Set it up (ip link set %s up), and see to its cable, and to what else manages it (nmcli device, networkctl).", parent),
		})
	}
	return found, nil
}
