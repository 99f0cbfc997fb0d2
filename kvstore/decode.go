package kvstore

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Decode reads an item's JSON into a T; the error names the key.
func Decode[T any](item Item) (T, error) {
	var value T
	if item.Oversize > 0 {
		return value, fmt.Errorf("record %s is too long to be read: %d bytes", item.Key, item.Oversize)
	}
	if err := json.Unmarshal(item.Value, &value); err != nil {
		return value, fmt.Errorf("record %s: %w", item.Key, err)
	}
	return value, nil
}

// Read gets the record under key as a T, and as the Item that a guard takes.
// Errors are those of Get and Decode.
func Read[T any](ctx context.Context, store Store, key string) (T, Item, error) {
	item, err := store.Get(ctx, key)
	if err != nil {
		var none T
		return none, item, err
	}
	value, err := Decode[T](item)
	return value, item, err
}

// DecodeAll reads the items below prefix into Ts, by the rest of their key.
// Records that cannot be read are left out and joined into the error.
func DecodeAll[T any](snapshot Snapshot, prefix string) (map[string]T, error) {
	values := make(map[string]T, len(snapshot.Items))
	var bad []string
	for _, key := range slices.Sorted(maps.Keys(snapshot.Items)) {
		value, err := Decode[T](snapshot.Items[key])
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		values[strings.TrimPrefix(key, prefix)] = value
	}
	if len(bad) > 0 {
		return values, fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return values, nil
}
