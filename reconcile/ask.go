package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/reconcile/view"
	"github.com/causeway-net/causeway/records"
)

// What others ask the loop: driver's handlers, and the collector.

// Alive says whether an endpoint of this host has its container's link, whatever was read
// of the records so far.
func (l *Loop) Alive(ctx context.Context, network fabric.Network, endpoint string) (bool, error) {
	return ask(ctx, l, func(ctx context.Context) (bool, error) {
		plane, err := l.plane(network.Mode)
		if err != nil {
			return false, err
		}
		alive, err := plane.Alive(ctx, fabric.Segment{Network: network, Local: []fabric.Endpoint{{ID: endpoint, Network: network.ID}}})
		return alive[endpoint], err
	})
}

// Attached gives the network behind a Docker network of this host; false where it is
// not in view yet. It does not wait for the loop.
func (l *Loop) Attached(dockerID string) (fabric.Network, records.Attachment, bool) {
	return l.view.Attached(dockerID)
}

// Networks are the IDs of the networks that this host needs.
func (l *Loop) Networks(ctx context.Context) ([]string, error) {
	return ask(ctx, l, func(context.Context) ([]string, error) { return l.view.Needed(), nil })
}

// Dead gives a network's endpoints of this host that have no container's link.
func (l *Loop) Dead(ctx context.Context, network string) (fabric.Network, []fabric.Endpoint, error) {
	type answer struct {
		network fabric.Network
		dead    []fabric.Endpoint
	}
	a, err := ask(ctx, l, func(ctx context.Context) (answer, error) {
		segment, ok := l.view.Local(network)
		plane, planned := l.Planes[segment.Network.Mode]
		if !ok || !planned || len(segment.Local) == 0 {
			return answer{}, nil
		}
		alive, err := plane.Alive(ctx, segment)
		if err != nil {
			return answer{segment.Network, nil}, err
		}
		dead := slices.DeleteFunc(segment.Local, func(e fabric.Endpoint) bool { return alive[e.ID] })
		return answer{segment.Network, dead}, nil
	})
	return a.network, a.dead, err
}

// Inspect says what of a network's objects on this host is not as the records have it;
// nothing where the network is not here, or was not read yet.
func (l *Loop) Inspect(ctx context.Context, network string) (fabric.Segment, []string, error) {
	type answer struct {
		segment fabric.Segment
		found   []string
	}
	a, err := ask(ctx, l, func(ctx context.Context) (answer, error) {
		segment, ok := l.read(network)
		if !ok {
			return answer{}, nil
		}
		plane, err := l.plane(segment.Network.Mode)
		if err != nil {
			return answer{}, err
		}
		found, err := plane.Inspect(ctx, segment)
		return answer{segment, found}, err
	})
	return a.segment, a.found, err
}

// Segment gives a network as this host has it; false where it is not here, or was not read
// yet.
func (l *Loop) Segment(ctx context.Context, network string) (fabric.Segment, bool, error) {
	type answer struct {
		segment fabric.Segment
		ok      bool
	}
	a, err := ask(ctx, l, func(context.Context) (answer, error) {
		segment, ok := l.read(network)
		return answer{segment, ok}, nil
	})
	return a.segment, a.ok, err
}

// read gives the segment of a network of which all is read.
func (l *Loop) read(network string) (fabric.Segment, bool) {
	if f, ok := l.follows[network]; !l.view.Synced() || !ok || !l.followBlocks(network, f) {
		return fabric.Segment{}, false
	}
	return l.view.Segment(network)
}

// Holdings are what this host has in the cluster; an error before all was read.
func (l *Loop) Holdings(ctx context.Context) (view.Holdings, error) {
	return ask(ctx, l, func(context.Context) (view.Holdings, error) {
		if !l.view.Synced() || !l.mayPrune() {
			return view.Holdings{}, errors.New("not all networks of this host are known yet")
		}
		return l.view.Holdings(), nil
	})
}

// Check says why this host cannot have network, before anything is changed.
func (l *Loop) Check(ctx context.Context, network fabric.Network) error {
	plane, err := l.plane(network.Mode)
	if err != nil {
		return err
	}
	_, err = ask(ctx, l, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, errors.Join(l.encrypt(ctx, network), plane.Check(ctx, network))
	})
	return err
}

// ask runs question in the loop, with the caller's ctx, and returns its answer.
func ask[T any](ctx context.Context, l *Loop, question func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1) // the loop may come to it after we are gone
	var none T
	err := l.post(ctx, func(context.Context) {
		value, err := question(ctx)
		answers <- answer{value, err}
	})
	if err != nil {
		return none, err
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("the data planes are busy: %w", ctx.Err())
	case <-l.done:
		return none, errStopping
	}
}

// Encrypt has encrypted networks begin at the first of this host's ends.
func (l *Loop) Encrypt(ctx context.Context, ends fabric.Ends) error {
	_, err := ask(ctx, l, func(context.Context) (struct{}, error) {
		l.mark(l.view.Encrypt(ends)...)
		return struct{}{}, nil
	})
	return err
}
