package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// planes compares what the kernel and the switch have with what is planned. A difference
// that causeway is about to repair is none: it is looked for a second time.
func planes(ctx context.Context, in *Inputs) ([]Finding, error) {
	ids, err := in.Planes.Networks(ctx)
	if err != nil {
		return nil, err
	}
	first := make(map[string][]string)
	var errs []error
	for _, id := range ids {
		_, differences, err := in.Planes.Inspect(ctx, id)
		if len(differences) > 0 {
			first[id] = differences
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(first) == 0 {
		return nil, errors.Join(errs...)
	}
	if err := pause(ctx, in.Timing.Again); err != nil {
		return nil, err
	}
	var found []Finding
	for _, id := range ids {
		if first[id] == nil {
			continue
		}
		segment, differences, err := in.Planes.Inspect(ctx, id)
		if err != nil {
			errs = append(errs, err)
		}
		lasting := slices.DeleteFunc(differences, func(d string) bool { return !slices.Contains(first[id], d) })
		if len(lasting) == 0 {
			continue
		}
		found = append(found, Finding{
			Severity: Problem, Scope: "network " + segment.Network.Label(),
			Cause:    fmt.Sprintf("What this host's kernel or switch has of network %s is not as planned.", segment.Network.Label()),
			Evidence: fmt.Sprintf("%s; the same after %s", few(lasting), in.Timing.Again),
			Remedy: "causeway repairs such differences within a second: if they stay, another program changes them again and again, or the kernel refuses them. " +
				"Look for that program, and at causeway's log; kill -HUP has all compared at once.",
		})
	}
	return found, errors.Join(errs...)
}

// few lists the first of many.
func few(texts []string) string {
	const most = 5
	if more := len(texts) - most; more > 0 {
		return strings.Join(texts[:most], "; ") + fmt.Sprintf("; and %d more", more)
	}
	return strings.Join(texts, "; ")
}
