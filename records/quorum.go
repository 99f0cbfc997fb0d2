package records

import (
	"context"
	"strings"

	"github.com/causeway-net/causeway/kvstore"
)

// The records below QuorumPrefix say which hosts were asked to hold the store, and
// where it is asked. The host whose member leads writes them; every host follows
// them.
const (
	holdersPrefix  = QuorumPrefix + "holders/"
	storeURLsKey   = QuorumPrefix + "urls"
	holderRelative = "holders/"
	urlsRelative   = "urls"
)

// Quorum is what the records say about who holds the store.
type Quorum struct {
	// Holders are the hosts that were asked to hold it.
	Holders map[string]bool
	// URLs are those of its members that have a vote, for clients.
	URLs []string
}

// WatchQuorum hands over the records and each change of them until ctx ends.
func WatchQuorum(ctx context.Context, store kvstore.Store, handle func(Quorum)) error {
	table := make(map[string][]string)
	return kvstore.Watch(ctx, store, QuorumPrefix, func(c kvstore.Change[[]string]) {
		c.Merge(table)
		q := Quorum{Holders: make(map[string]bool), URLs: table[urlsRelative]}
		for key := range table {
			if host, ok := strings.CutPrefix(key, holderRelative); ok {
				q.Holders[host] = true
			}
		}
		handle(q)
	})
}

// AskHolder asks a host of the cluster to hold the store.
func AskHolder(ctx context.Context, store kvstore.Store, host string) error {
	_, err := store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(HostKey(host))},
		Then: []kvstore.Op{kvstore.Put(holdersPrefix+host, []string{})},
	})
	return err
}

// DismissHolder takes that back.
func DismissHolder(ctx context.Context, store kvstore.Store, host string) error {
	_, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(holdersPrefix + host)}})
	return err
}

// PutStoreURLs tells all hosts where the store takes requests from now on.
func PutStoreURLs(ctx context.Context, store kvstore.Store, urls []string) error {
	_, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(storeURLsKey, urls)}})
	return err
}
