// Package trace follows one packet from a container of this host to another container, and
// names the hop where it is lost.
//
// A probe's path: [Tracer.Trace] finds both ends in the records (find.go), looks at each
// hop of this host and listens there (look.go, way.go, watch.go), and has the other host do the
// same, which it asks by a record (round.go). Then it sends a real packet from the
// container's own namespace (probe.go), gathers what was seen, and says in one sentence
// what became of it (verdict.go). Nothing is changed.
package trace

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Planes are asked how this host has a network.
type Planes interface {
	// Segment gives the network's; false where the host has none.
	Segment(ctx context.Context, network string) (fabric.Segment, bool, error)
	// Inspect says what of it is not as planned.
	Inspect(ctx context.Context, network string) (fabric.Segment, []string, error)
}

// Tunnels are the VXLAN devices of this host's networks of mode=vxlan.
type Tunnels interface {
	Tunnel(network string) (ns netns.NsHandle, device string, err error)
}

// Tracer is one host's part in traces.
type Tracer struct {
	Host    fabric.Host
	Store   kvstore.Store
	Planes  Planes
	Tunnels Tunnels
	// Device names the interface by which an underlay network's bridge is on the LAN.
	Device func(fabric.Network) string
	// SandboxDir is where the engine names its containers' namespaces.
	SandboxDir string
}

// Result is what became of a probe.
type Result struct {
	Network  string     `json:"network"`
	From     netip.Addr `json:"from"`
	To       netip.Addr `json:"to"`
	Port     uint16     `json:"port,omitempty"`
	Answered bool       `json:"answered"`
	// Verdict says it in one sentence.
	Verdict string `json:"verdict"`
	// Unwatched says why the other host's hops are missing; empty: they are not.
	Unwatched string `json:"unwatched,omitempty"`
	Hops      []Hop  `json:"hops"`
}

// Trace sends a probe from a container of this host to a container or its address: an ICMP
// echo, or with a port a TCP connection.
func (t Tracer) Trace(ctx context.Context, r Records, from, to string, port uint16) (Result, error) {
	p, err := r.find(from, to, t.Host.Name)
	if err != nil {
		return Result{}, err
	}
	// Ports above those that kernels give out by themselves.
	const lowest, count = 61000, 4500
	flow := Flow{From: p.source, To: p.dest, Port: port, Mark: uint16(lowest + rand.IntN(count))}
	result := Result{Network: p.network.Label(), From: p.source, To: p.dest, Port: port}
	local := p.to.Host == t.Host.Name
	watch := &watch{flow: flow}
	ns, err := t.listen(ctx, end{p.network.ID, p.from, p.to, p.dest, local}, watch)
	defer func() { watch.end(); _ = ns.Close() }() // it was only read
	if err != nil {
		return Result{}, fmt.Errorf("look at the way on host %s: %w", t.Host.Shown(), err)
	}
	var came outcome
	var probed error
	send := func() { came, probed = flow.probe(ctx, ns) }
	var far []Hop
	if local {
		far, err = t.watchFor(ctx, end{p.network.ID, p.to, p.from, p.source, true}, flow, send)
	} else {
		far, err = t.ask(ctx, p, flow, r.Hosts[p.to.Host].Shown(), send)
	}
	if err != nil {
		result.Unwatched = err.Error()
	}
	if probed != nil {
		return Result{}, fmt.Errorf("send from the namespace of container %s: %w", from, probed)
	}
	slices.Reverse(far)
	result.Hops = append(watch.end(), far...)
	result.conclude(came, err == nil)
	return result, nil
}

// conclude says what became of the probe.
func (r *Result) conclude(came outcome, whole bool) {
	switch came {
	case answered:
		r.Answered = true
		r.Verdict = fmt.Sprintf("%s answers.", r.To)
	case refused:
		r.Verdict = fmt.Sprintf("The way is open, and %s refuses TCP port %d: nothing listens there, or a packet filter rejects it.", r.To, r.Port)
	case silent:
		r.Verdict = verdict(r.Hops, whole)
	}
}

// watchFor listens at this host's hops while send runs, which runs in any case.
func (t Tracer) watchFor(ctx context.Context, e end, flow Flow, send func()) ([]Hop, error) {
	watch := &watch{flow: flow}
	ns, err := t.listen(ctx, e, watch)
	defer func() { _ = ns.Close() }() // it was only read
	send()
	return watch.end(), err
}
