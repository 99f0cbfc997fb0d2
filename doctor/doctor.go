// Package doctor finds what is wrong on a host, and in the cluster as that host sees it.
//
// Each check is a function from what the host's records, planes and kernel say
// ([Inputs]) to findings: a cause, what shows it, and what to do. [Examine] runs them all
// at once, each with a time limit; one that hangs or fails is a finding itself. A check is
// added to the table in this file. Nothing is changed by a check.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/kvstore"
)

// Severity says how much a finding matters.
type Severity string

// The severities.
const (
	Problem Severity = "problem" // traffic, or the start of containers, fails by it
	Warning Severity = "warning" // it may come to that
)

// Finding is one thing that is wrong, in plain sentences.
type Finding struct {
	// Host is who found it.
	Host     string   `json:"host"`
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Scope is what it is about, such as "network foo" or "host h2".
	Scope string `json:"scope"`
	// About are the same for programs: "host/KEY", "network/ID", or "tunnel/KEY/KEY" for
	// the way from one host to another, by their keys in the records.
	About    []string `json:"about,omitempty"`
	Cause    string   `json:"cause"`
	Evidence string   `json:"evidence"`
	Remedy   string   `json:"remedy"`
}

// Diagnosis is what an examination found.
type Diagnosis struct {
	Findings []Finding `json:"findings"`
	// Tunnels are those that were tried, with or without a finding.
	Tunnels []Tunnel `json:"tunnels"`
	// Talk is what the other hosts' containers and their peers send each other, where it was
	// asked for.
	Talk []talk.Conversation `json:"talk,omitempty"`
}

// Planes are asked what of this host's networks is not as planned.
type Planes interface {
	// Networks are the IDs of the networks that this host needs.
	Networks(ctx context.Context) ([]string, error)
	// Inspect gives a network's segment, and what of it is not as planned.
	Inspect(ctx context.Context, network string) (fabric.Segment, []string, error)
	// Segment gives a network as this host has it; false where it does not.
	Segment(ctx context.Context, network string) (fabric.Segment, bool, error)
}

// Tunnels are the VXLAN devices of this host's networks of mode=vxlan.
type Tunnels interface {
	// Tunnel opens the namespace of a network, and names the device there.
	Tunnel(network string) (ns netns.NsHandle, device string, err error)
}

// Inputs are what the checks look at.
type Inputs struct {
	Host   fabric.Host
	Faults []health.Fault
	Store  kvstore.Store
	// Records reads the cluster's tables; it is called once.
	Records func(ctx context.Context) (Records, error)
	Planes  Planes
	Tunnels Tunnels
	// RunDir is the host's /run, SandboxDir where the engine names its containers' namespaces.
	RunDir, SandboxDir string
	// Device names the interface by which an underlay network's bridge is on the LAN.
	Device func(fabric.Network) string
	// HostNS is the host's namespace, netns.None() for the caller's; VXLANPort is where
	// its tunnels end.
	HostNS    netns.NsHandle
	VXLANPort uint16
	// Certificates are the files of those that the user gave for the store.
	Certificates []string
	// Drops tells what this host's packet filter kept out so far.
	Drops func() ([]hostfilter.Drop, error)
	// Timing is for tests.
	Timing Timing
	// once gives all segments, read one time for all checks.
	once func() ([]fabric.Segment, error)
	// tried takes the tunnels that were tried; nil: nobody wants them.
	tried *tried
}

// segments are all networks of this host, by ID.
func (in *Inputs) segments(ctx context.Context) ([]fabric.Segment, error) {
	if in.once != nil {
		return in.once()
	}
	ids, err := in.Planes.Networks(ctx)
	if err != nil {
		return nil, err
	}
	var segments []fabric.Segment
	for _, id := range ids {
		segment, ok, err := in.Planes.Segment(ctx, id)
		if err != nil {
			return nil, err
		}
		if ok {
			segments = append(segments, segment)
		}
	}
	return segments, nil
}

// Timing are the times of an examination; a zero field takes the default.
type Timing struct {
	Limit time.Duration // of each check (4 s)
	Again time.Duration // until a second look at what may only be under way (1 s)
}

type check struct {
	name string
	look func(context.Context, *Inputs) ([]Finding, error)
	// whole says that it is about the cluster: one host's look is enough.
	whole bool
}

// checks are in the order in which their findings are told.
func checks() []check {
	return []check{
		{name: "faults", look: faults},
		{name: "planes", look: planes},
		{name: "vtep", look: vtep},
		{name: "nics", look: nics},
		{name: "strangers", look: strangers},
		{name: "checksums", look: checksums},
		{name: "firewall", look: firewall},
		{name: "certificates", look: certificates},
		{name: "vteps", look: sharedVTEPs, whole: true},
		{name: "tunnels", look: tunnels},
		{name: "echoes", look: echoes},
		{name: "drops", look: drops},
		{name: "store", look: store},
		{name: "hosts", look: deadHosts, whole: true},
		{name: "versions", look: versions, whole: true},
		{name: "pools", look: pools, whole: true},
		{name: "addresses", look: leakedAddresses, whole: true},
	}
}

// Examine runs all checks. Findings are in the order of the checks, problems first.
func Examine(ctx context.Context, in Inputs) Diagnosis {
	return examine(ctx, in, checks())
}

// ExamineHere runs the checks of this host alone, which read no tables.
func ExamineHere(ctx context.Context, in Inputs) Diagnosis {
	in.Records = func(context.Context) (Records, error) { return Records{}, errNoRecords }
	return examine(ctx, in, slices.DeleteFunc(checks(), func(c check) bool { return c.whole }))
}

func examine(ctx context.Context, in Inputs, checks []check) Diagnosis {
	in.Timing.Limit = cmp.Or(in.Timing.Limit, 4*time.Second)
	in.Timing.Again = cmp.Or(in.Timing.Again, time.Second)
	ctx, cancel := context.WithTimeout(ctx, in.Timing.Limit)
	defer cancel()
	read := in.Records
	once := sync.OnceValues(func() (Records, error) { return read(ctx) })
	in.Records = func(context.Context) (Records, error) { return once() }
	in.tried = &tried{}
	unshared := in
	in.once = sync.OnceValues(func() ([]fabric.Segment, error) { return unshared.segments(ctx) })
	outcomes := make([]chan []Finding, len(checks))
	for i, check := range checks {
		outcomes[i] = make(chan []Finding, 1) // it may end after we are gone
		go func() { outcomes[i] <- check.run(ctx, &in) }()
	}
	found := []Finding{}
	for i, outcome := range outcomes {
		select {
		case findings := <-outcome:
			found = append(found, findings...)
		case <-ctx.Done():
			found = append(found, late(outcome, checks[i], in)...)
		}
	}
	for i := range found {
		found[i].Host = in.Host.Shown()
		if found[i].Scope == thisHost {
			found[i].About = []string{aboutHost(in.Host.Name)}
		}
	}
	return Diagnosis{Findings: sorted(found), Tunnels: in.tried.all()}
}

// thisHost is the scope of what is about the host that looks.
const thisHost = "this host"

func aboutHost(key string) string   { return "host/" + key }
func aboutNetwork(id string) string { return "network/" + id }

// aboutTunnels are those from one host to others, by their keys.
func aboutTunnels(from string, to []string) []string {
	about := make([]string, 0, len(to))
	for _, host := range to {
		about = append(about, "tunnel/"+from+"/"+host)
	}
	slices.Sort(about)
	return slices.Compact(about)
}

// sorted has problems first, and else keeps the order.
func sorted(found []Finding) []Finding {
	slices.SortStableFunc(found, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) }) // as the words are spelt
	return found
}

// grace is what a check has after its limit to say what it found so far.
const grace = 200 * time.Millisecond

func late(outcome <-chan []Finding, c check, in Inputs) []Finding {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case findings := <-outcome:
		return findings
	case <-timer.C:
		return []Finding{c.hung(in)}
	}
}

func (c check) run(ctx context.Context, in *Inputs) []Finding {
	found, err := c.look(ctx, in)
	switch {
	case err == nil, errors.Is(err, errNoRecords): // which the check of the store tells
	case errors.Is(err, context.DeadlineExceeded):
		found = append(found, c.hung(*in))
	default:
		found = append(found, Finding{
			Severity: Problem, Scope: thisHost, Cause: fmt.Sprintf("The check %s could not be made.", c.name),
			Evidence: err.Error(), Remedy: "Mend what the error says, and ask again.",
		})
	}
	for i := range found {
		found[i].Check = c.name
	}
	return found
}

func (c check) hung(in Inputs) Finding {
	return Finding{
		Check: c.name, Severity: Problem, Scope: thisHost, Cause: fmt.Sprintf("The check %s did not end.", c.name),
		Evidence: fmt.Sprintf("it was given %s", in.Timing.Limit),
		Remedy:   "What it asks hangs, or the host is very busy: look at its load, and ask again.",
	}
}
