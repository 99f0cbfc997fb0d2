package hostfilter

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Drop is how many packets were dropped for one reason since the host booted.
type Drop struct {
	Reason string `json:"reason"`
	// Counter is the reason in one word, the name of its counter in the table.
	Counter string `json:"counter"`
	Packets uint64 `json:"packets"`
}

func counters() []string { return []string{strangers, injected, knocked, clear} }

// Drops tells what was dropped and why; reasons that never came up are left out.
func (f *Filter) Drops() ([]Drop, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.count(); err != nil {
		return nil, fmt.Errorf("host filter: %w", err)
	}
	reasons := map[string]string{
		strangers: "tunnelled by a sender without an endpoint on the network",
		injected:  "from a container to a tunnel's port on a host",
		knocked:   "from a container to a port of causeway on a host",
		clear:     "of an encrypted network, not by its WireGuard device",
	}
	var drops []Drop
	for _, name := range counters() {
		if f.drops[name] > 0 {
			drops = append(drops, Drop{Reason: reasons[name], Counter: name, Packets: f.drops[name]})
		}
	}
	return drops, nil
}

// count reads the counters.
func (f *Filter) count() error {
	found, err := f.conn.GetNamedObjects(table())
	if err != nil {
		return fmt.Errorf("read the counters of table %s: %w", tableName, err)
	}
	for _, object := range found {
		if named, ok := object.(*nftables.NamedObj); ok {
			if counter, ok := named.Obj.(*expr.Counter); ok {
				f.drops[named.Name] = counter.Packets
			}
		}
	}
	return nil
}
