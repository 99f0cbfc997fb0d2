package records

import (
	"iter"
	"net/netip"
	"strings"
)

// Block is a part of a pool that one host gives out addresses of, so that hosts
// do not meet. It is an affinity: an address belongs to whoever has its record,
// be it in another's block.
type Block struct {
	Prefix netip.Prefix `json:"prefix"`
	Host   string       `json:"host"`
}

// The lengths of blocks, of 64 addresses each, where Pool.BlockBits names no other.
const (
	blockBits4 = 26
	blockBits6 = 122
)

// blockBits is the length of a pool's blocks. A pool that is smaller than that is
// one block.
func (p Pool) blockBits() int {
	bits := p.BlockBits
	if bits == 0 {
		bits = blockBits6
		if p.Prefix.Addr().Is4() {
			bits = blockBits4
		}
	}
	return max(bits, p.Prefix.Bits())
}

// PoolBlocks is the prefix of a pool's blocks.
func PoolBlocks(pool string) string { return BlocksPrefix + pool + "/" }

// BlockKey is the key of a pool's block; its last element is the CIDR with "-" for "/".
func BlockKey(pool string, block netip.Prefix) string {
	return PoolBlocks(pool) + strings.ReplaceAll(block.Masked().String(), "/", "-")
}

// blockAt is the pool's block that addr is in.
func (p Pool) blockAt(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, p.blockBits()).Masked()
}

// byBlocks says whether the addresses from first to last are given out by blocks.
func (p Pool) byBlocks(first, last netip.Addr) bool {
	return p.BlockBits > 0 || Size(first, last) > wholeSize
}

// blocksFrom are the pool's blocks from the one of from to the one of to, which may
// come before it.
func (p Pool) blocksFrom(from, to netip.Addr) iter.Seq[netip.Prefix] {
	return func(yield func(netip.Prefix) bool) {
		down, end := to.Less(from), p.blockAt(to)
		for block := p.blockAt(from); yield(block) && block != end; {
			if down {
				block = p.blockAt(block.Addr().Prev())
			} else {
				block = p.blockAt(LastOf(block).Next())
			}
		}
	}
}
