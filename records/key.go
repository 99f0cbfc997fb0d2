package records

import (
	"context"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// AskForKey asks a host to replace its key of encrypted networks. It says which key, so that
// it is done once, also by a host that reads of it late or twice. The error is
// [kvstore.ErrNotFound] where there is no such host.
func AskForKey(ctx context.Context, store kvstore.Store, host string) error {
	have, item, err := kvstore.Read[fabric.Host](ctx, store, HostKey(host))
	if err != nil {
		return fmt.Errorf("host %s: %w", host, err)
	}
	if have.Last.Key != "" {
		return fmt.Errorf("the key of host %s is a new one already, and the last one still taken", have.Shown())
	}
	_, err = store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Unchanged(item)},
		Then: []kvstore.Op{kvstore.Put(KeyAsks(host)+"public", have.WireGuard.Key)},
	})
	return err
}

// FollowKeyAsks hands over the keys that the host was asked to replace, until ctx ends.
func FollowKeyAsks(ctx context.Context, store kvstore.Store, host string, replace func(key string)) error {
	return kvstore.Watch(ctx, store, KeyAsks(host), func(c kvstore.Change[string]) {
		for _, key := range c.Put {
			replace(key)
		}
	})
}
