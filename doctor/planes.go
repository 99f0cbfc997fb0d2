package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/pause"
)

// planes compares what the kernel and the switch have with what is planned. A difference
// that causeway is about to repair is none: it is looked for a second time.
func planes(ctx context.Context, in *Inputs) ([]Finding, error) {
	ids, err := in.Planes.Networks(ctx)
	if err != nil {
		return nil, err
	}
	first := make(map[string][]string)
	var found []Finding
	for _, id := range ids {
		segment, differences, err := in.Planes.Inspect(ctx, id)
		if ctx.Err() != nil {
			return found, ctx.Err()
		}
		if len(differences) > 0 {
			first[id] = differences
		}
		if err != nil {
			found = append(found, unread(segment.Network, err))
		}
	}
	if len(first) == 0 {
		return found, nil
	}
	if err := pause.For(ctx, in.Timing.Again); err != nil {
		return found, err
	}
	for _, id := range ids {
		if first[id] == nil {
			continue
		}
		segment, differences, err := in.Planes.Inspect(ctx, id)
		if err != nil {
			found = append(found, unread(segment.Network, err))
			continue
		}
		lasting := slices.DeleteFunc(differences, func(d string) bool { return !slices.Contains(first[id], d) })
		if len(lasting) == 0 {
			continue
		}
		found = append(found, Finding{
			Severity: Problem, Scope: "network " + segment.Network.Label(), About: []string{aboutNetwork(segment.Network.ID)},
			Cause:    fmt.Sprintf("What this host's kernel or switch has of network %s is not as planned.", segment.Network.Label()),
			Evidence: fmt.Sprintf("%s; the same after %s", few(lasting), in.Timing.Again),
			Remedy: "causeway repairs such differences within a second: if they stay, another program changes them again and again, or the kernel refuses them. " +
				"Look for that program, and at causeway's log; kill -HUP has all compared at once.",
		})
	}
	return found, nil
}

// unread is that the kernel or the switch cannot be asked about a network.
func unread(network fabric.Network, err error) Finding {
	f := Finding{
		Severity: Problem, Scope: "network " + network.Label(), About: []string{aboutNetwork(network.ID)}, Evidence: err.Error(),
		Cause:  fmt.Sprintf("What this host has of network %s cannot be read.", network.Label()),
		Remedy: "Do what the error says is missing; what runs keeps its traffic as long as the kernel has it.",
	}
	if network.Mode == fabric.ModeOVS {
		f.Remedy = "See that ovsdb-server and ovs-vswitchd run and answer (ovs-vsctl show; systemctl restart openvswitch-switch): networks of mode=ovs change nothing meanwhile."
	}
	return f
}

// few lists the first of many.
func few(texts []string) string {
	const most = 5
	if more := len(texts) - most; more > 0 {
		return strings.Join(texts[:most], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(texts, "; ")
}
