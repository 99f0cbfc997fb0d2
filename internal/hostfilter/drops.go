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
	// Remedy says what to do where they go on.
	Remedy string `json:"-"`
}

func counters() []string { return []string{strangers, injected, knocked, clear} }

// reasons are what the counters count.
func reasons() map[string]Drop {
	const inside = "Find the container on this host that sends them (tcpdump -ni any host VTEP), and see what runs in it: no container has business there."
	return map[string]Drop{
		strangers: {
			Reason: "tunnelled by a sender without an endpoint on the network",
			Remedy: "Find the sender (tcpdump -ni any udp port 4789): a machine that is no host of the cluster has no business there; " +
				"a host of the cluster that sends with another address than its VTEP needs --vtep, or NAT between the hosts taken away.",
		},
		injected: {Reason: "from a container to a tunnel's port on a host", Remedy: inside},
		knocked:  {Reason: "from a container to a port of causeway on a host", Remedy: inside},
		clear: {
			Reason: "of an encrypted network, not by its WireGuard device",
			Remedy: "Find the sender (tcpdump -ni any udp port 4789): it is a stranger, or a host whose causeway does not encrypt: bring all hosts to one version, and see causeway status there.",
		},
	}
}

// Drops tells what was dropped and why; reasons that never came up are left out.
func (f *Filter) Drops() ([]Drop, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.count(); err != nil {
		return nil, fmt.Errorf("host filter: %w", err)
	}
	var drops []Drop
	for _, name := range counters() {
		if f.drops[name] > 0 {
			drop := reasons()[name]
			drop.Counter, drop.Packets = name, f.drops[name]
			drops = append(drops, drop)
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
