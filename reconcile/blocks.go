package reconcile

import (
	"context"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// followBlocks follows the blocks of a routed network's pools, and says whether all that
// the network is planned with was read.
func (l *Loop) followBlocks(network string, f *following) (read bool) {
	if n := l.view.Network(network); n.Mode == fabric.ModeRouted {
		for _, subnet := range n.Subnets {
			if _, followed := f.blocks[subnet.Pool]; !followed {
				f.blocks[subnet.Pool] = false
				l.followPool(network, subnet.Pool, f)
			}
		}
	}
	for _, done := range f.blocks {
		if !done {
			return false
		}
	}
	return f.read
}

func (l *Loop) followPool(network, pool string, f *following) {
	follow(f.ctx, l, records.PoolBlocks(pool), nil, func(_ context.Context, c kvstore.Change[records.Block]) {
		if l.follows[network] != f {
			return // ended meanwhile
		}
		f.blocks[pool] = true
		l.view.BlocksChanged(network, pool, c)
		l.mark(network)
	})
}
