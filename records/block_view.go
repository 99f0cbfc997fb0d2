package records

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// chunk is a part of a pool that is read at once, and given out from memory until
// it is spent: a pool of few addresses, or 64 addresses of a block.
type chunk struct {
	view *PoolView
	// block is the record of this host's block that the chunk is in; zero: none.
	block kvstore.Item
	// read is when the chunk was read last; zero: it is not, or it has changed since.
	read time.Time
	// spent says that nothing more is given out before the chunk is read again.
	spent bool
	// freed is when an address of it was released here since it was read; zero: none was.
	freed time.Time
}

const (
	// wholeSize is how many addresses are read as one chunk.
	wholeSize = 256
	// chunkSize is how many of a block are: etcd takes 128 reads at once.
	chunkSize = 64
)

// worthReading says whether a spent chunk may have addresses again.
func (c *chunk) worthReading(now time.Time) bool {
	return c.read.IsZero() || !c.freed.IsZero() && now.Sub(c.freed) >= Quarantine || now.Sub(c.read) >= KeepFreed
}

// chunksOf cuts what v spans of a block into chunks.
func chunksOf(v *PoolView, block netip.Prefix, item kvstore.Item) []*chunk {
	first, last := later(v.First, block.Masked().Addr()), earlier(v.Last, LastOf(block))
	var chunks []*chunk
	for Size(first, last) > 0 {
		part := *v
		part.First, part.Last = first, first
		for n := 1; n < chunkSize && part.Last.Less(last); n++ {
			part.Last = part.Last.Next()
		}
		chunks = append(chunks, &chunk{view: &part, block: item})
		first = part.Last.Next()
		if !first.IsValid() {
			break
		}
	}
	if v.Pool.DockerIPAM {
		slices.Reverse(chunks) // from the top down
	}
	return chunks
}

// readChunk reads the addresses of c, and whether its block is this host's still.
func (r Records) readChunk(ctx context.Context, c *chunk) (ours bool, err error) {
	ours = true
	v := c.view
	if size := Size(v.First, v.Last); size > wholeSize || size > chunkSize && Size(Bounds(v.Pool.Prefix)) <= wholeSize {
		read, err := r.Store.List(ctx, PoolAddresses(v.key))
		if err != nil {
			return false, err
		}
		v.fill(read, r.now())
	} else if ours, err = r.readKeys(ctx, c); err != nil {
		return false, err
	}
	c.read, c.spent, c.freed = v.Now, false, time.Time{}
	return ours, r.deleteFreed(ctx, v)
}

func (r Records) readKeys(ctx context.Context, c *chunk) (ours bool, err error) {
	v, all := c.view, kvstore.Snapshot{Items: map[string]kvstore.Item{}}
	var keys []string
	if c.block.Key != "" {
		keys = append(keys, c.block.Key)
	}
	for addr := range Addrs(v.First, v.Last, false) {
		keys = append(keys, AddressKey(v.key, addr))
	}
	for some := range slices.Chunk(keys, chunkSize+1) {
		read, err := r.Store.GetAll(ctx, some)
		if err != nil {
			return false, err
		}
		all.Revision = read.Revision
		maps.Copy(all.Items, read.Items)
	}
	ours = all.Items[c.block.Key].Revision == c.block.Revision
	delete(all.Items, c.block.Key)
	v.fill(all, r.now())
	return ours, nil
}
