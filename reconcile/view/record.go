package view

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/records"
)

// usable gives the part of a host's record that can be used, the zero Host when
// there is none, and why not all of it can. What fabric.Plan ignores may stay.
func (v *View) usable(name string, host fabric.Host) (fabric.Host, error) {
	if err := records.CheckHost(name, host); err != nil {
		return fabric.Host{}, err
	}
	if name != v.self.Name && host.VTEP == v.self.VTEP {
		host.VTEP = netip.Addr{}
		return host, fmt.Errorf("host %s: its record has this host's VTEP %s: nothing is sent to its containers", name, v.self.VTEP)
	}
	return host, fabric.CheckPeer(v.self, host)
}

func checkNetwork(id string, network fabric.Network) error {
	switch {
	case network.ID != id:
		return fmt.Errorf("record %s is of network %q", records.NetworkKey(id), network.ID)
	case network.Mode == "":
		return fmt.Errorf("record %s has no mode", records.NetworkKey(id))
	}
	return nil
}

func checkEndpoint(network, id string, endpoint fabric.Endpoint) error {
	key := records.EndpointKey(network, id)
	switch {
	case endpoint.ID != id || endpoint.Network != network:
		return fmt.Errorf("record %s is of endpoint %q on network %q", key, endpoint.ID, endpoint.Network)
	case endpoint.Host == "":
		return fmt.Errorf("record %s has no host", key)
	case slices.ContainsFunc(endpoint.Addrs, func(p netip.Prefix) bool { return !p.IsValid() }):
		return fmt.Errorf("record %s has an address that is none", key)
	}
	return nil
}

// heldNetwork is a network whose record was deleted, or changed in what is fixed
// at its creation, while this host has endpoints on it: the last good record is
// applied, so that they keep their traffic.
type heldNetwork struct {
	next   *fabric.Network // what the record says now; nil: it was deleted
	change error
	ticks  int
}

// takeNetwork takes in what the record of a network says now, nil when it is
// gone. It says whether the network is another than before.
func (v *View) takeNetwork(id string, next *fabric.Network) bool {
	have, known := v.state.Networks[id]
	if change := changeOf(have, next); known && change != nil && len(v.own[id]) > 0 {
		v.held[id] = &heldNetwork{next: next, change: change}
		return false
	}
	v.release(id)
	delete(v.changes, id)
	v.mu.Lock()
	defer v.mu.Unlock()
	if next == nil {
		delete(v.state.Networks, id)
	} else {
		v.state.Networks[id] = *next
	}
	return true
}

// unhold takes in what the record of a held network says, once this host has no
// endpoint on it.
func (v *View) unhold(id string) {
	if held, ok := v.held[id]; ok {
		v.takeNetwork(id, held.next)
	}
}

func (v *View) release(id string) {
	if _, ok := v.held[id]; ok {
		delete(v.held, id)
		v.bad.board.Report(heldScope(id), nil)
	}
}

func heldScope(id string) health.Scope {
	return health.Scope{Part: health.Records, Object: records.NetworkKey(id)}
}

// reportHeld reports the networks that are held. It is called now and then, and
// passes over the first time: where a network is deleted with its last endpoints,
// either change may be seen first.
func (v *View) reportHeld() {
	for id, held := range v.held {
		if held.ticks++; held.ticks < 2 {
			continue
		}
		v.bad.board.Report(heldScope(id), fmt.Errorf(
			"%w; containers of this host are on it, so it is applied as it was and they keep their traffic: restore the record, or remove the containers", held.change))
	}
}

// changeOf says what of a network that is fixed at its creation is another in next.
func changeOf(have fabric.Network, next *fabric.Network) error {
	if next == nil {
		return fmt.Errorf("the record of network %s was deleted", have.Label())
	}
	return fabric.CheckChange(have, *next)
}
