package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/internal/health"
)

// badRecords are the records that cannot be used. They are reported by table,
// with their number: there may be thousands.
type badRecords struct {
	board  *health.Board
	tables map[string]map[string]error // by table and key
	told   map[string]bool             // tables that were reported
}

func newBadRecords(board *health.Board) *badRecords {
	return &badRecords{board: board, tables: map[string]map[string]error{}, told: map[string]bool{}}
}

// note notes why a record cannot be used, nil when it can or is gone.
func (b *badRecords) note(key string, err error) {
	table, _, _ := strings.Cut(key, "/")
	if err == nil {
		delete(b.tables[table], key)
		return
	}
	if b.tables[table] == nil {
		b.tables[table] = map[string]error{}
	}
	b.tables[table][key] = err
}

// forget drops the records below prefix.
func (b *badRecords) forget(prefix string) {
	table, _, _ := strings.Cut(prefix, "/")
	maps.DeleteFunc(b.tables[table], func(key string, _ error) bool { return strings.HasPrefix(key, prefix) })
}

// report brings the Board up to date. Tables that are on it already wait for
// report with all, so that a stream of bad records is no stream of messages.
func (b *badRecords) report(all bool) {
	for table, bad := range b.tables {
		if len(bad) > 0 && b.told[table] && !all {
			continue
		}
		b.told[table] = len(bad) > 0
		b.board.Report(health.Scope{Part: health.Records, Object: table}, summary(table, bad))
	}
}

func summary(table string, bad map[string]error) error {
	if len(bad) == 0 {
		return nil
	}
	first := bad[slices.Min(slices.Collect(maps.Keys(bad)))]
	if len(bad) == 1 {
		return first
	}
	return fmt.Errorf("%d records below %s/ cannot be used as they are; the first: %w", len(bad), table, first)
}
