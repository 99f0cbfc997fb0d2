package ovs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/openflow"
	"github.com/causeway-net/causeway/internal/portfilter"
	"github.com/causeway-net/causeway/internal/vswitch"
)

// A port's meters have its number in their IDs. Others' meters on the bridge have lower
// ones. The userspace datapath has 65,536 at least.
const (
	firstMeter    = 0x1000
	metersOfPort  = 3
	shortestBurst = 512 // kilobits: the largest segment that a container may hand over
)

func broadcastMeter(number int) uint32 { return uint32(firstMeter + number*metersOfPort) }
func fromMeter(number int) uint32      { return broadcastMeter(number) + 1 }
func toMeter(number int) uint32        { return broadcastMeter(number) + 2 }

func portOfMeter(id uint32) int { return int(id-firstMeter) / metersOfPort }

// through has a frame pass a meter.
func through(meter uint32) string { return fmt.Sprintf("meter:%d,", meter) }

// limitedOutput sends to a container, no faster than its network lets it get.
func (w *writer) limitedOutput(number int) string {
	if w.network.Rate == 0 {
		return output(number)
	}
	return through(toMeter(number)) + output(number)
}

// meters are those that the flows of a network name, by ID.
func (p programme) meters() map[uint32]openflow.Meter {
	meters := make(map[uint32]openflow.Meter)
	add := func(m openflow.Meter) { meters[m.ID] = m }
	for _, at := range p.local() {
		if gateway.IsEndpoint(*at.Endpoint) {
			continue
		}
		rule := portfilter.RuleOf(p.segment.Network, *at.Endpoint)
		if rule.Broadcasts > 0 { // the bucket holds a second's worth
			add(openflow.Meter{ID: broadcastMeter(at.port), Packets: true, Rate: uint32(rule.Broadcasts), Burst: uint32(rule.Broadcasts)})
		}
		// And this one 200 ms: a meter has no queue, and with 50 ms TCP came to a quarter of the rate.
		if rule.Rate > 0 {
			rate := uint32(rule.Rate / 1000)
			for _, id := range []uint32{fromMeter(at.port), toMeter(at.port)} {
				add(openflow.Meter{ID: id, Rate: rate, Burst: max(rate/5, shortestBurst)})
			}
		}
	}
	return meters
}

// remeter compares the meters on the switch with those that are wanted of a network,
// and removes those that only last had.
func remeter(have, last, want map[uint32]openflow.Meter) (changes []openflow.MeterChange) {
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if m, there := have[id]; !there {
			changes = append(changes, openflow.MeterChange{Command: openflow.AddMeter, Meter: want[id]})
		} else if m != want[id] {
			changes = append(changes, openflow.MeterChange{Command: openflow.ModifyMeter, Meter: want[id]})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(last)) {
		_, there := have[id]
		if _, wanted := want[id]; there && !wanted {
			changes = append(changes, openflow.MeterChange{Command: openflow.DeleteMeter, Meter: last[id]})
		}
	}
	return changes
}

// metered notes what was done with meters.
func (have *inventory) metered(changes []openflow.MeterChange) {
	for _, change := range changes {
		if change.Command == openflow.DeleteMeter {
			delete(have.meters, change.ID)
		} else {
			have.meters[change.ID] = change.Meter
		}
	}
}

// pruneMeters deletes the meters of ports that are not ours any more.
func (p *Plane) pruneMeters(ctx context.Context) error {
	ours := make(map[int]bool)
	for _, port := range p.have.ports {
		ours[port.number] = true
	}
	var c vswitch.Change
	for id, m := range p.have.meters {
		if !ours[portOfMeter(id)] {
			c.Meters = append(c.Meters, openflow.MeterChange{Command: openflow.DeleteMeter, Meter: m})
		}
	}
	if err := p.vswitch.Write(ctx, c); err != nil {
		return err
	}
	p.have.metered(c.Meters)
	return nil
}

// ourMeters picks those in our range of IDs.
func ourMeters(all map[uint32]openflow.Meter) map[uint32]openflow.Meter {
	maps.DeleteFunc(all, func(id uint32, _ openflow.Meter) bool { return id < firstMeter })
	return all
}

// Drops counts the frames that were dropped at the ports of this host's containers, by
// endpoint ID: what flows and meters counted since they were written. It reads the
// switch alone; any goroutine may call it.
func (p *Plane) Drops(ctx context.Context) (map[string]fabric.Drops, error) {
	all := make(map[string]fabric.Drops)
	if p.missing(ctx) != nil || p.vswitch.Generation() == "" {
		return all, nil // Apply reports a switch that is not there
	}
	err := p.countDrops(ctx, all)
	if err != nil {
		return nil, fmt.Errorf("ovs: %w", err)
	}
	return all, nil
}

func (p *Plane) countDrops(ctx context.Context, all map[string]fabric.Drops) error {
	rows, err := p.vswitch.Interfaces(ctx)
	if err != nil {
		return err
	}
	endpoints := make(map[int]string) // by port
	for _, row := range rows {
		if id := row.ExternalIDs[vswitch.IDEndpoint]; id != "" && row.Port > 0 {
			endpoints[row.Port] = id
		}
	}
	note := func(number int, reason string, count uint64) {
		id, ours := endpoints[number]
		if !ours || count == 0 {
			return
		}
		if all[id] == nil {
			all[id] = make(fabric.Drops)
		}
		all[id][reason] += count
	}
	reasons := reasonsOf(slices.Collect(maps.Keys(endpoints)))
	for _, table := range []int{tableMAC, tableKind, tableSource} {
		flows, err := p.vswitch.CountFlows(ctx, cookieOurs, cookieMask, table)
		if err != nil {
			return err
		}
		for _, flow := range flows {
			if drop, known := reasons[flow.Key()]; known {
				note(drop.number, drop.reason, flow.Packets)
			}
		}
	}
	meters, err := p.vswitch.MeterDrops(ctx)
	if err != nil {
		return err
	}
	for id, count := range meters {
		switch number := portOfMeter(id); {
		case id < firstMeter:
		case id == broadcastMeter(number):
			note(number, portfilter.OverBroadcasts, count)
		default:
			note(number, portfilter.OverRate, count)
		}
	}
	return nil
}

// drop is a denial at one port.
type drop struct {
	number int
	reason string
}

// reasonsOf tells the flows that deny something at the ports.
func reasonsOf(ports []int) map[vswitch.FlowKey]drop {
	reasons := make(map[vswitch.FlowKey]drop)
	for _, number := range ports {
		for _, d := range denials() {
			flow := vswitch.Flow{Table: d.table, Priority: d.priority, Match: matchAt(d.kind, number, d.match)}
			reasons[flow.Key()] = drop{number, d.reason}
		}
	}
	return reasons
}
