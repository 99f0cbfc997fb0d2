package nl

import (
	"fmt"
	"time"

	"github.com/google/nftables"
)

// SetElements reads the elements of a set of nf_tables. The kernel goes on with a dump by a
// count of elements, so where its hash table grows meanwhile, it gives some elements twice and
// leaves out as many: such a dump is read again.
func SetElements(conn *nftables.Conn, set *nftables.Set) ([]nftables.SetElement, error) {
	const limit = 3 * time.Second
	type element struct {
		key string
		end bool
	}
	for end := time.Now().Add(limit); time.Now().Before(end); {
		found, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("list the set %s of %s: %w", set.Name, set.Table.Name, err)
		}
		once := make(map[element]bool, len(found))
		for _, e := range found {
			once[element{key: string(e.Key), end: e.IntervalEnd}] = true
		}
		if len(once) == len(found) {
			return found, nil
		}
	}
	return nil, fmt.Errorf("list the set %s of %s: the kernel gives elements twice for %s", set.Name, set.Table.Name, limit)
}
