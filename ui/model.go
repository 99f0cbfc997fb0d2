package ui

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// The kinds of objects; each begins its keys.
const (
	hostsKind      = "hosts/"      // by the host's key
	networksKind   = "networks/"   // by ID
	containersKind = "containers/" // by network and endpoint
	addressesKind  = "addresses/"  // by pool and address
	agentKey       = "agent"
)

// Host is a host as the page shows it.
type Host struct {
	// Name is what users know it by; its key never changes.
	Name    string     `json:"name"`
	VTEP    netip.Addr `json:"vtep"`
	MTU     int        `json:"mtu"` // bytes
	Version string     `json:"version"`
	// AliveSince is when its causeway started; nil while none runs there.
	AliveSince *time.Time `json:"alive_since"`
}

// Network is a network as the page shows it. Its options and labels, which may be anything,
// are not shown.
type Network struct {
	Name      string      `json:"name"`
	Mode      fabric.Mode `json:"mode"`
	VNI       uint32      `json:"vni"`
	MTU       int         `json:"mtu"` // bytes; 0: the smallest of the hosts', less the tunnel's
	Encrypted bool        `json:"encrypted"`
	Internal  bool        `json:"internal"`
	Subnets   []Subnet    `json:"subnets"`
}

// Subnet is one range of a network's addresses.
type Subnet struct {
	Pool    string       `json:"pool"`
	Prefix  netip.Prefix `json:"prefix"`
	Gateway netip.Addr   `json:"gateway"`
	// First and Last bound what containers may get.
	First netip.Addr `json:"first"`
	Last  netip.Addr `json:"last"`
	// Size is the number of addresses from First to Last; -1 where they are past counting.
	Size int `json:"size"`
}

// Container is a container's place on one network.
type Container struct {
	Endpoint  string         `json:"endpoint"`
	Network   string         `json:"network"`
	Host      string         `json:"host"`
	MAC       fabric.MAC     `json:"mac"`
	Addresses []netip.Prefix `json:"addresses"`
	Name      string         `json:"name"`
	Names     []string       `json:"names"`
}

// Address is an address that has a record; one that has none is free.
type Address struct {
	Kind      records.AddressKind `json:"kind"`
	Host      string              `json:"host"`
	Container string              `json:"container"` // its endpoint
	Name      string              `json:"name"`
	// RestsUntil is until when an address that was freed is passed over while others
	// are free; zero for others.
	RestsUntil time.Time `json:"rests_until,omitzero"`
}

// Agent says how the page's own source is.
type Agent struct {
	// Error is why the agent does not answer; empty: it does.
	Error string `json:"error"`
}

// model has the records, and writes into the hub what the page shows of them.
type model struct {
	hub    *hub
	tables map[string]map[string]json.RawMessage // by prefix and the rest of the key
}

func newModel(h *hub) *model { return &model{hub: h, tables: map[string]map[string]json.RawMessage{}} }

// apply takes a change in. It works on what changed alone.
func (m *model) apply(change agent.Change) {
	table := m.tables[change.Prefix]
	if table == nil {
		table = map[string]json.RawMessage{}
		m.tables[change.Prefix] = table
	}
	for _, key := range change.Apply(table) {
		switch change.Prefix {
		case records.HostsPrefix, records.AlivePrefix:
			m.show(hostsKind+key, m.tables[records.HostsPrefix][key], func(text json.RawMessage) (any, error) { return m.host(key, text) })
		case records.NetworksPrefix:
			m.show(networksKind+key, table[key], network)
		case records.EndpointsPrefix:
			m.show(containersKind+key, table[key], container)
		case records.AddressesPrefix:
			m.show(addressesKind+key, table[key], address)
		}
	}
}

// show writes what object makes of a record. One that cannot be read, or is not there, is
// not shown: doctor tells of it.
func (m *model) show(key string, record json.RawMessage, object func(json.RawMessage) (any, error)) {
	if record != nil {
		if shown, err := object(record); err == nil {
			m.hub.put(key, shown)
			return
		}
	}
	m.hub.drop(key)
}

func (m *model) host(key string, text json.RawMessage) (any, error) {
	var host fabric.Host
	if err := json.Unmarshal(text, &host); err != nil {
		return nil, err
	}
	shown := Host{Name: host.Shown(), VTEP: host.VTEP, MTU: host.MTU, Version: host.Version}
	if text, there := m.tables[records.AlivePrefix][key]; there {
		var alive records.Alive
		if err := json.Unmarshal(text, &alive); err != nil {
			return nil, err
		}
		shown.AliveSince = &alive.Since
	}
	return shown, nil
}

func network(text json.RawMessage) (any, error) {
	var network fabric.Network
	if err := json.Unmarshal(text, &network); err != nil {
		return nil, err
	}
	shown := Network{
		Name: network.Label(), Mode: network.Mode, VNI: network.VNI, MTU: network.MTU,
		Encrypted: network.Encrypted, Internal: network.Internal, Subnets: []Subnet{},
	}
	for _, subnet := range network.Subnets {
		first, last := records.Bounds(subnet.Prefix)
		shown.Subnets = append(shown.Subnets, Subnet{
			Pool: subnet.Pool, Prefix: subnet.Prefix, Gateway: subnet.Gateway, First: first, Last: last, Size: doctor.Free(subnet, 0),
		})
	}
	return shown, nil
}

func container(text json.RawMessage) (any, error) {
	var endpoint fabric.Endpoint
	if err := json.Unmarshal(text, &endpoint); err != nil {
		return nil, err
	}
	return Container{
		Endpoint: endpoint.ID, Network: endpoint.Network, Host: endpoint.Host, MAC: endpoint.MAC,
		Addresses: endpoint.Addrs, Name: endpoint.Name, Names: endpoint.Names,
	}, nil
}

func address(text json.RawMessage) (any, error) {
	var address records.Address
	if err := json.Unmarshal(text, &address); err != nil {
		return nil, err
	}
	shown := Address{Kind: address.Kind, Host: address.Host, Container: address.Endpoint, Name: address.Name}
	if address.Kind == records.KindFree && !address.Freed.IsZero() {
		shown.RestsUntil = address.Freed.Add(records.Quarantine)
	}
	return shown, nil
}
