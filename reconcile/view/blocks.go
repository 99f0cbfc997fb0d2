package view

import (
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// BlocksChanged takes in a change of the blocks of a pool of a routed network: its
// routes are planned anew. A block that overlaps another cannot be used.
func (v *View) BlocksChanged(network, pool string, c kvstore.Change[records.Block]) {
	have := v.blocks[network]
	if have == nil {
		have = map[string]fabric.Block{}
		v.blocks[network] = have
	}
	prefix := records.PoolBlocks(pool)
	for name, err := range c.Bad {
		v.bad.note(prefix+name, err)
	}
	for name, block := range c.Put {
		err := checkBlock(prefix+name, pool, block)
		v.bad.note(prefix+name, err)
		if err == nil {
			have[prefix+name] = fabric.Block{Prefix: block.Prefix.Masked(), Host: block.Host}
		}
	}
	for _, name := range c.Gone {
		v.bad.note(prefix+name, nil)
		delete(have, prefix+name)
	}
	v.state.Blocks[network] = v.usableBlocks(have)
	v.holders[network] = map[string]bool{}
	for _, block := range v.state.Blocks[network] {
		v.holders[network][block.Host] = true
	}
	delete(v.changes, network)
}

func checkBlock(key, pool string, block records.Block) error {
	if !block.Prefix.IsValid() || block.Host == "" || records.BlockKey(pool, block.Prefix) != key {
		return fmt.Errorf("record %s is of block %s of host %q", key, block.Prefix, block.Host)
	}
	return nil
}

// usableBlocks sorts the blocks. Of two that overlap, the one that begins first counts.
func (v *View) usableBlocks(have map[string]fabric.Block) []fabric.Block {
	blocks := slices.Collect(maps.Values(have))
	fabric.SortBlocks(blocks)
	usable := blocks[:0]
	for _, block := range blocks {
		if n := len(usable); n > 0 && usable[n-1].Prefix.Overlaps(block.Prefix) {
			continue
		}
		usable = append(usable, block)
	}
	return usable
}

// UnfollowedBlocks drops the blocks of a network.
func (v *View) UnfollowedBlocks(network string) {
	for key := range v.blocks[network] {
		v.bad.forget(key)
	}
	delete(v.blocks, network)
	delete(v.holders, network)
	delete(v.state.Blocks, network)
}
