package ovs

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"

	"github.com/causeway-net/causeway/internal/openflow"
	"github.com/causeway-net/causeway/internal/vswitch"
)

// inventory is what the switch has of ours, as last read and as changed since.
type inventory struct {
	present  bool                // the bridge is there
	made     bool                // and we made it
	right    bool                // and it is set as we want it, or is not ours to set
	datapath string              // "netdev" for the userspace one
	filtered bool                // the ports are kept from the host's stack
	unmerged map[netip.Addr]bool // WireGuard devices with GRO off, by their address
	tunnels  map[string]vswitch.Interface
	ports    map[string]portRow // by endpoint ID
	groups   map[uint32]string  // buckets, by group ID
	meters   map[uint32]openflow.Meter
	foreign  int             // ports and groups of others on the bridge
	gateways map[string]bool // looked at, by network
	// internal names the devices that bridges have on the host.
	internal map[string]bool
}

// portRow is the port of an endpoint.
type portRow struct {
	name      string
	network   string
	container string // its name, as the port bears it
	number    int    // zero where the switch lost the device
}

// newInventory is that of a switch without a bridge.
func newInventory() *inventory {
	return &inventory{
		tunnels: map[string]vswitch.Interface{}, ports: map[string]portRow{}, internal: map[string]bool{},
		groups: map[uint32]string{}, meters: map[uint32]openflow.Meter{}, gateways: map[string]bool{}, unmerged: map[netip.Addr]bool{},
	}
}

// look reads the inventory if something may have changed it.
func (p *Plane) look(ctx context.Context) error {
	if p.have != nil {
		return nil
	}
	bridges, err := p.vswitch.Bridges(ctx)
	if err != nil {
		return err
	}
	have := newInventory()
	for _, bridge := range bridges {
		if bridge.Name != p.Bridge {
			continue
		}
		have.present, have.made = true, bridge.ExternalIDs[vswitch.IDBridge] == p.Bridge
		have.datapath = bridge.Datapath
		have.right = p.isRight(bridge)
	}
	interfaces, err := p.vswitch.Interfaces(ctx)
	if err != nil {
		return err
	}
	var on []string
	if have.present {
		if on, err = p.vswitch.ListPorts(ctx); err != nil {
			return err
		}
		groups, others, err := p.vswitch.DumpGroups(ctx)
		if err != nil {
			return err
		}
		have.groups, have.foreign = ourGroups(groups)
		have.foreign += others
		meters, err := p.vswitch.DumpMeters(ctx)
		if err != nil {
			return err
		}
		have.meters = ourMeters(meters)
	}
	for _, row := range interfaces {
		have.sort(row, slices.Contains(on, row.Name))
	}
	p.have = have
	return nil
}

// isRight says whether a bridge is set as we want it, or is not ours to set.
func (p *Plane) isRight(bridge vswitch.Bridge) bool {
	return bridge.ExternalIDs[vswitch.IDBridge] != p.Bridge || bridge.FailMode == "secure" && bridge.Datapath == p.Datapath
}

// sort adds one interface to the list that it belongs to.
func (have *inventory) sort(row vswitch.Interface, onBridge bool) {
	if row.Type == "internal" {
		have.internal[row.Name] = true
	}
	endpoint := row.ExternalIDs[vswitch.IDEndpoint]
	switch {
	case !onBridge:
	case row.ExternalIDs[vswitch.IDTunnel] != "":
		have.tunnels[row.Name] = row
	case endpoint != "":
		have.ports[endpoint] = portRow{name: row.Name, network: row.ExternalIDs[vswitch.IDNetwork], container: row.ExternalIDs[vswitch.IDContainer], number: row.Port}
	default:
		have.foreign++
	}
}

// ensureBridge creates the bridge, and the flows that serve every network.
func (p *Plane) ensureBridge(ctx context.Context, network fabric.Network, vtep netip.Addr) (repaired int, err error) {
	if !p.have.present || !p.have.right {
		if err := p.leaves(network, vtep, p.have.internal); err != nil {
			return 0, err
		}
		if err := p.vswitch.AddBridge(ctx, p.Datapath); err != nil {
			return 0, err
		}
		if p.have.present {
			repaired = 1
		} else {
			p.Log.WithFields(logrus.Fields{"bridge": p.Bridge, "datapath": p.Datapath}).Info("created the Open vSwitch bridge")
		}
		p.have.present, p.have.made, p.have.right, p.have.datapath = true, true, true, p.Datapath
	}
	flows, err := p.program(ctx, static, programme{})
	return repaired + flows, err
}

// ensureTunnel creates the tunnel port of segment's network.
func (p *Plane) ensureTunnel(ctx context.Context, segment fabric.Segment) (repaired int, err error) {
	name := tunnelPort(segment.Network)
	want := p.tunnelOf(segment)
	row, there := p.have.tunnels[name]
	if segment.Network.Encrypted {
		fresh, mended, err := p.ensureDevice(segment)
		if repaired = mended; err != nil {
			return repaired, err
		}
		if there && fresh { // the switch would keep the device that is gone
			if err := p.vswitch.DeletePorts(ctx, name); err != nil {
				return repaired, err
			}
			want.Number, row.Port = p.known[segment.Network.ID].ports.tunnel, 0 // which the flows have
		}
	}
	if there && row.Port > 0 && row.Type == want.Kind && maps.Equal(row.Options, want.Options()) {
		return repaired, nil
	}
	if err := p.vswitch.AddTunnel(ctx, name, want); err != nil {
		return repaired, err
	}
	rows, err := p.vswitch.Attached(ctx, name)
	if err != nil {
		return repaired, err
	}
	p.have.tunnels[name] = rows[name]
	if there {
		repaired++
	}
	return repaired, nil
}

func (p *Plane) tunnelOf(segment fabric.Segment) vswitch.Tunnel {
	if segment.Network.Encrypted {
		return vswitch.Tunnel{Kind: vswitch.Device}
	}
	t := vswitch.Tunnel{Kind: kindOf(segment.Network), VTEP: segment.VTEP}
	if t.Kind == "vxlan" {
		t.Port = p.VXLANPort
	}
	return t
}

// tunnelPort names the port that network's frames leave by: that of its tunnel type, or its
// own where it is encrypted.
func tunnelPort(network fabric.Network) string {
	if network.Encrypted {
		return fabric.SealedPort(network)
	}
	return "cw" + kindOf(network)
}

func kindOf(network fabric.Network) string {
	if network.Tunnel == "" {
		return "vxlan"
	}
	return network.Tunnel
}
