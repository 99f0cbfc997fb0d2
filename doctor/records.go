package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// Records are the cluster's tables, by key below their prefix.
type Records struct {
	Hosts     map[string]fabric.Host
	Alive     map[string]records.Alive
	Networks  map[string]fabric.Network
	Endpoints map[string]fabric.Endpoint // by network and ID
	Addresses map[string]records.Address // by pool and address
	Members   map[string]records.Member  // by network and host
}

// errNoRecords says that a check needs the records, and they could not be read.
var errNoRecords = errors.New("the records cannot be read")

func noRecords(err error) error { return fmt.Errorf("%w: %w", errNoRecords, err) }

// Used counts the addresses that are not free, by pool.
func (r Records) Used() map[string]int {
	used := make(map[string]int)
	for key, address := range r.Addresses {
		if pool, _, ok := strings.Cut(key, "/"); ok && address.Kind != records.KindFree {
			used[pool]++
		}
	}
	return used
}

// Free says how many of a subnet's addresses may be given out where used are not; -1
// where they are past counting.
func Free(subnet fabric.Subnet, used int) int {
	if size := records.Size(records.Bounds(subnet.Prefix)); size < 1<<24 {
		return max(0, size-used)
	}
	return -1
}

// shown names hosts as users know them, sorted.
func (r Records) shown(keys []string) []string {
	names := make([]string, 0, len(keys))
	for _, key := range keys {
		names = append(names, r.Hosts[key].Shown())
	}
	slices.Sort(names)
	return names
}

// sentence begins with a capital and ends in a full stop.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if !strings.HasPrefix(text, "causeway") {
		text = string(unicode.ToUpper(first)) + text[size:]
	}
	return strings.TrimSuffix(text, ".") + "."
}
