package fabric

import (
	"context"
	"errors"
	"net/netip"
)

// ErrPartial is in the error of an Apply that did all but some entries, which
// the kernel refuses: containers are plugged all the same.
var ErrPartial = errors.New("the kernel refuses some of the network's entries")

// Plugged is an endpoint whose link Docker can take.
type Plugged struct {
	Endpoint
	Link string
	// Gateways are as [Dataplane] has them.
	Gateways []netip.Addr
}

// Dataplane applies the segments of one mode to this host's kernel or switch.
// One goroutine calls it, one call at a time; Watch alone runs beside.
type Dataplane interface {
	// Check says why this host cannot carry network, before anything
	// is changed; nil when it can.
	Check(ctx context.Context, network Network) error
	// Apply makes the kernel match one segment; idempotent. It returns how many
	// objects were repaired: they had been right and were found wrong.
	Apply(ctx context.Context, segment Segment) (repaired int, err error)
	// Update applies a change of a segment: it costs what the change does, not what
	// the segment has, and reads nothing back, also after Invalidate. After an error,
	// as where the segment was not applied before, a whole Apply follows.
	Update(ctx context.Context, delta Delta) error
	// Plug creates the veth pair of a local endpoint, whose segment was applied
	// before, and returns the name of the end that Docker takes; idempotent. Of the
	// segment, what other hosts have is left out.
	Plug(ctx context.Context, segment Segment, endpoint Endpoint) (link string, err error)
	// Gateways gives the addresses that containers on the segment's network may have
	// their default route to, as far as they are up on this host.
	Gateways(segment Segment) []netip.Addr
	// Alive tells which of the segment's local endpoints have a container: the
	// host's end of the pair is there and the other has left the host's namespace.
	Alive(ctx context.Context, segment Segment) (map[string]bool, error)
	// Inspect says, one sentence each, what the kernel or switch has otherwise than the
	// segment wants it, or that nothing of it was applied yet; it reads, and changes nothing.
	Inspect(ctx context.Context, segment Segment) ([]string, error)
	// Prune removes what is ours and not kept. Of what is kept only the network and
	// its local endpoints are given.
	Prune(ctx context.Context, keep []Segment) error
	// Invalidate makes the next Apply of each segment read the kernel back.
	Invalidate()
	// Watch runs until ctx ends and calls drifted with the ID of each network whose
	// objects in the kernel or switch others changed, "" for all. The next Apply of
	// such a network reads back. The plane's own writes cause no call. drifted returns
	// at once.
	Watch(ctx context.Context, drifted func(network string)) error
}
