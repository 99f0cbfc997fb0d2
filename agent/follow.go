package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

const followPath = "/Agent.Follow"

// Change is what happened to the records below one prefix: all of them at first, and then
// those that changed.
type Change struct {
	Prefix string `json:"prefix"`
	// First says that Put are all records that there are.
	First bool `json:"first,omitempty"`
	// Put are the records that were written, by the rest of their key.
	Put map[string]json.RawMessage `json:"put,omitempty"`
	// Gone are those that were removed.
	Gone []string `json:"gone,omitempty"`
}

// followedPrefixes are those of the records that "causeway ui" shows; no secret is in them.
func followedPrefixes() []string {
	return []string{records.HostsPrefix, records.AlivePrefix, records.NetworksPrefix, records.EndpointsPrefix, records.AddressesPrefix}
}

func handleFollow(server *plugin.Server, config Config) {
	plugin.Follow(server, followPath, func(ctx context.Context, w io.Writer) error {
		return follow(ctx, config.Store, w)
	})
}

// follow writes changes to w, a line each, until ctx ends or nobody reads them.
func follow(ctx context.Context, store kvstore.Store, w io.Writer) error {
	group, ctx := errgroup.WithContext(ctx)
	lines := make(chan Change)
	for _, prefix := range followedPrefixes() {
		group.Go(func() error {
			first := true
			return store.Follow(ctx, prefix, func(snapshot kvstore.Snapshot) {
				change := changeOf(prefix, snapshot)
				change.First, first = first, false
				select {
				case lines <- change:
				case <-ctx.Done():
				}
			})
		})
	}
	group.Go(func() error {
		encoder := json.NewEncoder(w)
		for {
			select {
			case change := <-lines:
				if err := encoder.Encode(change); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return group.Wait()
}

// changeOf leaves out what is no JSON: what it was before stays.
func changeOf(prefix string, snapshot kvstore.Snapshot) Change {
	change := Change{Prefix: prefix, Put: make(map[string]json.RawMessage, len(snapshot.Changed))}
	for _, key := range snapshot.Changed {
		item, there := snapshot.Items[key]
		switch {
		case !there:
			change.Gone = append(change.Gone, key[len(prefix):])
		case json.Valid(item.Value):
			change.Put[key[len(prefix):]] = item.Value
		}
	}
	return change
}

// Apply brings the change into table, by the rest of the key, and names the keys that it
// touched, sorted.
func (c Change) Apply(table map[string]json.RawMessage) (touched []string) {
	touched = append(slices.Sorted(maps.Keys(c.Put)), c.Gone...)
	if c.First {
		for key := range table {
			if _, there := c.Put[key]; !there {
				touched = append(touched, key)
				delete(table, key)
			}
		}
	}
	maps.Copy(table, c.Put)
	for _, key := range c.Gone {
		delete(table, key)
	}
	slices.Sort(touched)
	return slices.Compact(touched)
}

// Follow calls take with the records that the cluster has and then with each change, until
// ctx ends or the agent does. It returns why it ended.
func (c *Client) Follow(ctx context.Context, take func(Change)) error {
	body, err := c.unbounded().post(ctx, followPath, nothing{})
	if err != nil {
		return err
	}
	defer body.Close()
	decoder := json.NewDecoder(body)
	for {
		var change Change
		err := decoder.Decode(&change)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the agent at %s has ended", c.socket)
		case err != nil:
			return fmt.Errorf("the agent at %s broke off: %w", c.socket, err)
		}
		take(change)
	}
}
