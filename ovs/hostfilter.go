package ovs

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/causeway-net/causeway/internal/forward"
	"github.com/causeway-net/causeway/internal/vswitch"
)

// filterTable has a chain for each port of the userspace datapath, of the port's
// name, which drops what comes in there. The datapath reads its ports through
// packet sockets, which get a frame before this hook does; past the hook the
// host's own stack would take part in the containers' networks. (The kernel's
// datapath takes frames after it, and leaves none to the stack.)
const filterTable = "causeway-ovs"

// filterHost drops the frames of the ports before the host's stack, and deletes the
// chains of ports that are stale. It returns how many chains it added.
func (l links) filterHost(ports []string, stale func(port string) bool) (added int, err error) {
	if added, err = l.changeFilter(ports, stale); err != nil {
		return 0, fmt.Errorf("drop containers' frames before the host's stack (nftables, family netdev): %w", err)
	}
	return added, nil
}

func (l links) changeFilter(ports []string, stale func(port string) bool) (added int, err error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(l.NS())))
	if err != nil {
		return 0, err
	}
	table := &nftables.Table{Name: filterTable, Family: nftables.TableFamilyNetdev}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		if len(ports) == 0 {
			return 0, nil // without nf_tables there is nothing to delete
		}
		return 0, err
	}
	have, deleted := make(map[string]bool), 0
	for _, chain := range chains {
		if chain.Table.Name != filterTable {
			continue
		}
		have[chain.Name] = true
		if stale(chain.Name) {
			conn.DelChain(chain)
			deleted++
		}
	}
	for _, port := range ports {
		if have[port] {
			continue
		}
		if added == 0 {
			conn.AddTable(table)
		}
		drop := nftables.ChainPolicyDrop
		conn.AddChain(&nftables.Chain{
			Table: table, Name: port, Device: port, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
			Priority: nftables.ChainPriorityRaw, Policy: &drop,
		})
		added++
	}
	switch {
	case added+deleted == 0:
		return 0, nil
	case added == 0 && deleted == len(have):
		conn.DelTable(table)
	}
	return added, conn.Flush()
}

// filterPorts has all ports filtered, after the inventory was read.
func (p *Plane) filterPorts() (repaired int, err error) {
	if p.have.filtered || p.have.datapath != "netdev" {
		return 0, nil
	}
	ports, err := p.plugged()
	if err != nil {
		return 0, err
	}
	added, err := p.links.filterHost(ports, never)
	if err != nil {
		return 0, err
	}
	p.have.filtered = true
	if len(p.known) > 0 { // else there may have been none before
		repaired = added
	}
	return repaired, nil
}

// plugged are the ports whose pair or device is there.
func (p *Plane) plugged() (ports []string, err error) {
	ends, err := p.links.pairs.List()
	if err != nil {
		return nil, err
	}
	for _, port := range p.have.ports {
		if _, there := ends[port.name]; there {
			ports = append(ports, port.name)
		}
	}
	for name, row := range p.have.tunnels {
		if row.Type == vswitch.Device && p.links.has(name) {
			ports = append(ports, name)
		}
	}
	return ports, nil
}

func never(string) bool { return false }

// hostFilter watches the chains.
func (w watcher) hostFilter(ctx context.Context) error {
	return forward.Rules{NS: w.links.NS()}.Watch(ctx, func(messages []netlink.Message) {
		of := func(message netlink.Message) bool { return bytes.Contains(message.Data, []byte(filterTable)) }
		if messages != nil && !slices.ContainsFunc(messages, of) {
			return
		}
		var stale []string
		err := w.activity.settle(ctx, func() error { return nil }, func() {
			if w.have != nil && w.have.filtered && w.unfiltered() {
				stale = []string{static}
				w.mark(stale)
			}
		})
		if err == nil { // else ctx has ended
			w.tell(stale)
		}
	})
}

// unfiltered says that a port has no chain.
func (w watcher) unfiltered() bool {
	ports, err := w.plugged()
	if err != nil {
		return false
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(w.links.NS())))
	if err != nil {
		return false
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(ports, func(port string) bool {
		return !slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == filterTable && c.Name == port })
	})
}
