package ovs

import (
	"fmt"

	"github.com/google/nftables"
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
	ends, err := p.links.pairs.List()
	if err != nil {
		return 0, err
	}
	var ports []string
	for _, port := range p.have.ports {
		if _, there := ends[port.name]; there {
			ports = append(ports, port.name)
		}
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

func never(string) bool { return false }
