package records

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// pickBlocks picks of this host's blocks: what is known to be free, then what is free
// when a spent block is read again, then of a new block. Without one left it takes
// over an empty block of another host's or borrows an address of one, and in the end
// reads the whole pool. Where Docker's allocator gives out from below, a block of the
// lower half is the last thing that is taken, and nothing is borrowed.
func (c *Claimer) pickBlocks(ctx context.Context, a *allocation, span *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	for _, look := range []func(context.Context, *allocation, *PoolView, *attempt) (netip.Addr, *chunk, error){
		c.fromMemory, c.fromSpent, c.fromNew, c.fromQuarantine, c.fromLower, c.fromOthers,
	} {
		if addr, ch, err := look(ctx, a, span, try); err != nil || ch != nil {
			return addr, ch, err
		}
	}
	return c.pickWhole(ctx, a, span, try)
}

func (c *Claimer) fromMemory(_ context.Context, a *allocation, _ *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	for _, ch := range a.chunks {
		if ch.read.IsZero() || ch.spent {
			continue
		}
		if addr, found := c.choose(a, ch, try, true); found {
			return addr, ch, nil
		}
		ch.spent = true
	}
	return netip.Addr{}, nil, nil
}

// fromSpent reads some chunks again that may have free addresses.
func (c *Claimer) fromSpent(ctx context.Context, a *allocation, _ *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	const most = 2
	read := 0
	for _, ch := range slices.Clone(a.chunks) {
		if read == most || !ch.worthReading(try.now) {
			continue
		}
		read++
		ours, err := c.readChunk(ctx, ch)
		if err != nil {
			return netip.Addr{}, nil, err
		}
		if !ours {
			a.chunks = slices.DeleteFunc(a.chunks, func(other *chunk) bool { return other.block.Key == ch.block.Key })
			continue
		}
		if addr, found := c.choose(a, ch, try, true); found {
			return addr, ch, nil
		}
		ch.spent = true
	}
	return netip.Addr{}, nil, nil
}

func (c *Claimer) fromNew(ctx context.Context, a *allocation, span *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	return c.fromBlockOf(ctx, a, span, try, a.pool.DockerIPAM)
}

func (c *Claimer) fromLower(ctx context.Context, a *allocation, span *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	if !a.pool.DockerIPAM {
		return netip.Addr{}, nil, nil
	}
	return c.fromBlockOf(ctx, a, span, try, false)
}

// fromQuarantine picks what was freed first of this host's blocks in a shared pool.
func (c *Claimer) fromQuarantine(_ context.Context, a *allocation, _ *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	for _, ch := range a.chunks {
		if !a.pool.DockerIPAM || ch.read.IsZero() {
			continue
		}
		if addr, found := c.choose(a, ch, try, false); found {
			return addr, ch, nil
		}
	}
	return netip.Addr{}, nil, nil
}

// fromBlockOf takes a block that nobody has and picks of it; of the upper half of
// what span spans, or of all.
func (c *Claimer) fromBlockOf(ctx context.Context, a *allocation, span *PoolView, try *attempt, upper bool) (netip.Addr, *chunk, error) {
	for range 4 { // those of a block may all be claimed by name
		block, err := c.freeBlock(ctx, a, span, try, upper)
		if err != nil || !block.IsValid() {
			return netip.Addr{}, nil, err
		}
		ch, err := c.takeBlock(ctx, a, span, block, kvstore.Missing(BlockKey(a.key, block)))
		if err != nil {
			return netip.Addr{}, nil, err
		}
		if addr, found := c.choose(a, ch, try, true); found {
			return addr, ch, nil
		}
		ch.spent = true
	}
	return netip.Addr{}, nil, nil
}

// freeBlock finds a block that nobody has; the zero one if there is none.
func (c *Claimer) freeBlock(ctx context.Context, a *allocation, span *PoolView, try *attempt, upper bool) (netip.Prefix, error) {
	const atOnce, again = 64, time.Minute
	if try.now.Sub(a.noBlocks).Abs() < again {
		return netip.Prefix{}, nil
	}
	from, to := span.First, span.Last
	if a.pool.DockerIPAM {
		from, to = to, from
	}
	end := to
	if upper {
		middle := netip.PrefixFrom(LastOf(a.pool.Prefix), min(a.pool.Prefix.Bits()+1, a.pool.Prefix.Addr().BitLen())).Masked().Addr()
		end = later(to, earlier(middle, from))
	}
	begun := from
	if a.next.IsValid() && span.InSpan(a.next) && (!upper || end.Compare(a.next) <= 0) {
		from = a.next
	}
	for window := range slices.Chunk(slices.Collect(limit(a.pool.blocksFrom(from, end), mostBlocks)), atOnce) {
		free, err := c.withoutHost(ctx, a.key, window)
		if err != nil {
			return netip.Prefix{}, err
		}
		if len(free) > 0 {
			a.next = later(span.First, earlier(span.Last, window[0].Addr()))
			return free[rand.IntN(min(len(free), 1<<min(2*try.conflicts, 6)))], nil
		}
	}
	a.next = netip.Addr{}
	if from == begun && !upper {
		a.noBlocks = try.now
	}
	return netip.Prefix{}, nil
}

// mostBlocks is how many blocks are looked at for a free one.
const mostBlocks = 1 << 14

// withoutHost are those of blocks that have no record.
func (r Records) withoutHost(ctx context.Context, pool string, blocks []netip.Prefix) ([]netip.Prefix, error) {
	keys := make([]string, 0, len(blocks))
	for _, block := range blocks {
		keys = append(keys, BlockKey(pool, block))
	}
	taken, err := r.Store.GetAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(blocks), func(block netip.Prefix) bool {
		_, there := taken.Items[BlockKey(pool, block)]
		return there
	}), nil
}

// takeBlock makes a block this host's while guard holds, and reads its first chunk.
func (c *Claimer) takeBlock(ctx context.Context, a *allocation, span *PoolView, block netip.Prefix, guard kvstore.Guard) (*chunk, error) {
	key := BlockKey(a.key, block)
	revision, err := c.Store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{guard, kvstore.Unchanged(a.item)},
		Then: []kvstore.Op{kvstore.Put(key, Block{Prefix: block, Host: c.Host})},
	})
	if err != nil {
		a.item = kvstore.Item{}
		return nil, err
	}
	chunks := chunksOf(span, block, kvstore.Item{Key: key, Revision: revision})
	a.chunks = append(chunks, a.chunks...) // the newest is looked at first
	_, err = c.readChunk(ctx, chunks[0])
	return chunks[0], err
}

// ownChunks are those of the blocks that this host has of what v spans.
func (r Records) ownChunks(ctx context.Context, v *PoolView) ([]*chunk, error) {
	blocks, err := r.blocks(ctx, v.key)
	if err != nil {
		return nil, err
	}
	var own []ownBlock
	for _, block := range blocks {
		if block.Host == r.Host && block.Prefix.Bits() == v.Pool.blockBits() && v.Pool.Prefix.Contains(block.Prefix.Addr()) {
			own = append(own, block)
		}
	}
	slices.SortFunc(own, func(a, b ownBlock) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	var chunks []*chunk
	for _, block := range own {
		chunks = append(chunks, chunksOf(v, block.Prefix, block.item)...)
	}
	if v.Pool.DockerIPAM {
		slices.Reverse(chunks)
	}
	return chunks, nil
}

// ownBlock is a block and its record.
type ownBlock struct {
	Block
	item kvstore.Item
}

// blocks reads those of a pool; what cannot be used is left out.
func (r Records) blocks(ctx context.Context, pool string) ([]ownBlock, error) {
	snapshot, err := r.Store.List(ctx, PoolBlocks(pool))
	if err != nil {
		return nil, err
	}
	var blocks []ownBlock
	for key, item := range snapshot.Items {
		block, err := kvstore.Decode[Block](item)
		if err == nil && block.Prefix.IsValid() && key == BlockKey(pool, block.Prefix) {
			blocks = append(blocks, ownBlock{block, item})
		}
	}
	return blocks, nil
}

// fromOthers looks at some blocks at random when the pool has none left: an empty one
// is taken over, of another an address is borrowed.
func (c *Claimer) fromOthers(ctx context.Context, a *allocation, span *PoolView, try *attempt) (netip.Addr, *chunk, error) {
	const most = 4
	size := Size(span.First, span.Last)
	if a.pool.DockerIPAM || size == 0 {
		return netip.Addr{}, nil, nil
	}
	if a.whole != nil && !a.whole.read.IsZero() {
		if addr, found := c.choose(a, a.whole, try, true); found {
			return addr, a.whole, nil
		}
	}
	for range most {
		block := a.pool.blockAt(after(span.First, rand.IntN(size)))
		item, err := c.Store.Get(ctx, BlockKey(a.key, block))
		if err != nil && !errors.Is(err, kvstore.ErrNotFound) {
			return netip.Addr{}, nil, err
		}
		holder, bad := kvstore.Decode[Block](item)
		if err != nil || bad != nil || holder.Host == c.Host {
			continue
		}
		chunks := chunksOf(span, block, item)
		ch := chunks[rand.IntN(len(chunks))]
		if _, err := c.readChunk(ctx, ch); err != nil {
			return netip.Addr{}, nil, err
		}
		if len(chunks) == 1 && ch.empty() && Size(ch.view.First, ch.view.Last) > chunkSize/2 {
			if ch, err = c.takeBlock(ctx, a, span, block, kvstore.Unchanged(item)); err != nil {
				return netip.Addr{}, nil, err
			}
		}
		addr, found := c.choose(a, ch, try, true)
		if !found {
			continue
		}
		if ch.block.Revision == item.Revision {
			ch.block, a.whole = kvstore.Item{}, ch // its block is another's
		}
		return addr, ch, nil
	}
	return netip.Addr{}, nil, nil
}

// empty says that nobody has had an address of the chunk for the time of quarantine.
func (c *chunk) empty() bool {
	for addr, address := range c.view.Known {
		if address.Kind != KindFree || c.view.FreedWithin(addr, Quarantine) {
			return false
		}
	}
	return true
}
