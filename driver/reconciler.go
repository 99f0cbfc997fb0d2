package driver

import (
	"context"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
)

// reconciler gives the handlers the loop as a [Reconciler].
type reconciler struct{ loop *loop }

func (r reconciler) Check(ctx context.Context, network fabric.Network) error {
	plane, ok := r.loop.Planes[network.Mode]
	if !ok {
		return fmt.Errorf("this causeway has no data plane for mode=%s", network.Mode)
	}
	return r.loop.do(ctx, func(ctx context.Context) error { return plane.Check(ctx, network) })
}

func (r reconciler) Follow(ctx context.Context, network string, revision int64) error {
	return r.loop.watch(ctx, network, revision)
}

func (r reconciler) Plug(ctx context.Context, network, endpoint string) (string, fabric.Endpoint, error) {
	done, err := r.loop.plug(ctx, network, endpoint)
	return done.link, done.endpoint, err
}

func (r reconciler) Alive(ctx context.Context, network, endpoint string) (bool, error) {
	return r.loop.lives(ctx, network, endpoint)
}

// Refusal implements [Membership].
func (s *standing) Refusal() error { return s.refusal() }

func orID(network fabric.Network) string { return network.Label() }
