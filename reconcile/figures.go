package reconcile

import (
	"context"
	"maps"

	"github.com/causeway-net/causeway/fabric"
)

// Figures are what a Loop has in view and has done; counts begin with the process.
type Figures struct {
	// Hosts and Networks are those of the cluster.
	Hosts, Networks int
	// Here are the networks that this host needs.
	Here []NetworkFigures
	// Work is by the mode of the plane that did it.
	Work map[fabric.Mode]Work
}

// NetworkFigures are those of one network.
type NetworkFigures struct {
	Network fabric.Network
	// Endpoints are those on all hosts, Local on this one.
	Endpoints, Local int
}

// Work counts what one plane was asked to do.
type Work struct {
	// Changes were written alone, Wholes compared a network with the kernel.
	Changes, Wholes uint64
	// Failures are those that ended in an error.
	Failures uint64
	// Mended are entries, devices and the like that were right and were found wrong.
	Mended uint64
}

// Figures asks the loop; it costs nothing for each endpoint. Before all was read there
// are fewer.
func (l *Loop) Figures(ctx context.Context) (Figures, error) {
	return ask(ctx, l, func(context.Context) (Figures, error) {
		hosts, networks := l.view.Counts()
		f := Figures{Hosts: hosts, Networks: networks, Work: maps.Clone(l.counts)}
		for _, id := range l.view.Needed() {
			all, local := l.view.CountsOn(id)
			f.Here = append(f.Here, NetworkFigures{Network: l.view.Network(id), Endpoints: all, Local: local})
		}
		return f, nil
	})
}

// Own gives the networks that this host needs, each with the IDs of its endpoints here.
func (l *Loop) Own(ctx context.Context) ([]OwnEndpoints, error) {
	return ask(ctx, l, func(context.Context) (all []OwnEndpoints, err error) {
		for _, id := range l.view.Needed() {
			all = append(all, OwnEndpoints{l.view.Network(id), l.view.OwnOn(id)})
		}
		return all, nil
	})
}

// OwnEndpoints are a host's on one network.
type OwnEndpoints struct {
	Network fabric.Network
	IDs     []string
}

// count notes what a plane did.
func (l *Loop) count(mode fabric.Mode, add func(*Work)) {
	work := l.counts[mode]
	add(&work)
	l.counts[mode] = work
}
