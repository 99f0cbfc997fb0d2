package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/causeway-net/causeway/fabric"
)

// joins are Docker's Joins that wait for their endpoint to be in view and its
// segment to be applied, by network.
type joins map[string][]*join

type join struct {
	endpoint string
	reply    chan plugged
}

type plugged struct {
	fabric.Plugged
	err error
}

func (j joins) add(network string, wait *join) { j[network] = append(j[network], wait) }

func (j joins) remove(network string, wait *join) {
	j.keep(network, slices.DeleteFunc(j[network], func(other *join) bool { return other == wait }))
}

func (j joins) keep(network string, waiting []*join) {
	if len(waiting) == 0 {
		delete(j, network)
		return
	}
	j[network] = waiting
}

// Plug waits until the endpoint's segment is applied, and returns the link that
// Docker moves into the container.
func (l *Loop) Plug(ctx context.Context, network, endpoint string) (fabric.Plugged, error) {
	wait := &join{endpoint: endpoint, reply: make(chan plugged, 1)}
	err := l.post(ctx, func(context.Context) {
		l.joins.add(network, wait)
		l.schedule.hurry(time.Now(), network)
	})
	if err != nil {
		return fabric.Plugged{}, err
	}
	select {
	case done := <-wait.reply:
		return done.Plugged, done.err
	case <-l.done:
		return fabric.Plugged{}, errStopping
	case <-ctx.Done():
	}
	go func() { // the loop may be what took so long
		_ = l.post(context.WithoutCancel(ctx), func(context.Context) { l.joins.remove(network, wait) })
	}()
	return fabric.Plugged{}, fmt.Errorf("endpoint %.12s is not ready: its record was not read back from the store in time", endpoint)
}

// answer plugs the endpoints of the Joins that wait for segment and are in it.
func (l *Loop) answer(ctx context.Context, segment fabric.Segment) {
	id := segment.Network.ID
	var waiting []*join
	for _, wait := range l.joins[id] {
		index := slices.IndexFunc(segment.Local, func(e fabric.Endpoint) bool { return e.ID == wait.endpoint })
		if index < 0 {
			waiting = append(waiting, wait)
			continue
		}
		done := plugged{fabric.Plugged{Endpoint: segment.Local[index]}, l.faults[id]}
		if done.err == nil || errors.Is(done.err, fabric.ErrPartial) {
			plane := l.Planes[segment.Network.Mode]
			if done.Link, done.err = plane.Plug(ctx, segment, done.Endpoint); done.err != nil {
				l.view.Applied(id, false) // the next time, the plane reads back
			}
			done.Gateways = plane.Gateways(segment)
		}
		wait.reply <- done
	}
	l.joins.keep(id, waiting)
}
