package reconcile

import (
	"context"
	"time"
)

// KickAndJoin does what Kick and Plug do, with nothing in between.
func (l *Loop) KickAndJoin(ctx context.Context, network, endpoint string) (joined chan error, err error) {
	wait := &join{endpoint: endpoint, reply: make(chan plugged, 1)}
	joined = make(chan error, 1)
	go func() {
		done := <-wait.reply
		joined <- done.err
	}()
	return joined, l.post(ctx, func(context.Context) {
		l.readAll()
		l.joins.add(network, wait)
		l.schedule.hurry(time.Now(), network)
	})
}
