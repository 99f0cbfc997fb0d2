package main

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/metrics"
	"github.com/causeway-net/causeway/reconcile"
	"github.com/causeway-net/causeway/underlay"
)

// traffic reads the device that a network's traffic passes on its way to other hosts;
// Open vSwitch has none for each network.
func (p *planes) traffic(network fabric.Network) (metrics.Traffic, bool) {
	namespace, device := p.device(network)
	if device == "" {
		return metrics.Traffic{}, false
	}
	counted, err := statistics(namespace, device)
	if err != nil {
		return metrics.Traffic{}, false // it is not here yet, or not any more
	}
	return metrics.Traffic(p.countersOf(network, counted)), true
}

// countersOf are those of a network's device, with what was led past it.
func (p *planes) countersOf(network fabric.Network, counted netlink.LinkStatistics) agent.Counters {
	if network.Mode != fabric.ModeRouted {
		return countersOf(false, counted)
	}
	all, past := countersOf(true, counted), p.routed.LedPast(network.ID)
	all.ReceivedBytes += past.InBytes
	all.ReceivedPackets += past.InPackets
	all.SentBytes += past.OutBytes
	all.SentPackets += past.OutPackets
	return all
}

// device names it, and the path of the namespace that it is in: empty for the host's own.
func (p *planes) device(network fabric.Network) (namespace, device string) {
	switch network.Mode {
	case fabric.ModeVXLAN:
		return p.vxlan.Device(network)
	case fabric.ModeRouted:
		return "", gateway.LinkName(network)
	case fabric.ModeUnderlay:
		return "", underlay.Device(network)
	}
	return "", ""
}

// countersOf are a device's, as the containers see them: those of a bridge, and of the
// host's end of a container's pair, are turned round.
func countersOf(turned bool, counted netlink.LinkStatistics) agent.Counters {
	if turned {
		return agent.Counters{
			ReceivedBytes: counted.TxBytes, ReceivedPackets: counted.TxPackets, SentBytes: counted.RxBytes, SentPackets: counted.RxPackets,
		}
	}
	return agent.Counters{
		ReceivedBytes: counted.RxBytes, ReceivedPackets: counted.RxPackets, SentBytes: counted.TxBytes, SentPackets: counted.TxPackets,
	}
}

// counters reads, for the agent, the devices of the networks that this host needs and of its
// containers on them. What is not there yet, or not any more, is left out.
func (p *planes) counters(loop *reconcile.Loop) func(context.Context) (agent.Traffic, error) {
	return func(ctx context.Context) (agent.Traffic, error) {
		read := agent.Traffic{Networks: make(map[string]agent.Counters), Containers: make(map[string]agent.Counters)}
		err := p.eachPlace(ctx, loop, func(at place) {
			if link, ok := at.links[at.device]; ok && link.Attrs().Statistics != nil {
				read.Networks[at.Network.ID] = p.countersOf(at.Network, *link.Attrs().Statistics)
			}
			for id, end := range at.ends() {
				if counted := end.Attrs().Statistics; counted != nil {
					read.Containers[at.Network.ID+"/"+id] = countersOf(true, *counted)
				}
			}
		})
		return read, err
	}
}

// talks measures, for the agent, who talks to whom over the pairs of this host's containers.
func (p *planes) talks(loop *reconcile.Loop) func(context.Context) ([]talk.Conversation, error) {
	p.meter.Each = func(ctx context.Context, do func(*nl.Handle, talk.Pair)) error {
		return p.eachPlace(ctx, loop, func(at place) {
			for id, end := range at.ends() {
				do(at.kernel, talk.Pair{Network: at.Network.ID, Endpoint: id, End: end})
			}
		})
	}
	return p.meter.Rates
}

// place is where a network's device and the host's ends of its pairs are on this host.
type place struct {
	reconcile.OwnEndpoints
	kernel *nl.Handle
	device string
	links  map[string]netlink.Link // of the namespace, by name
}

// ends gives the host's ends that are there, by endpoint.
func (at place) ends() map[string]netlink.Link {
	found := make(map[string]netlink.Link, len(at.IDs))
	for _, id := range at.IDs {
		if end, ok := at.links[nl.HostEnd(id)]; ok {
			found[id] = end
		}
	}
	return found
}

// eachPlace goes through the networks that this host needs. A namespace that is not there
// yet, or not any more, is left out.
func (p *planes) eachPlace(ctx context.Context, loop *reconcile.Loop, do func(place)) error {
	all, err := loop.Own(ctx)
	in := make(map[string][]place) // by namespace
	for _, own := range all {
		namespace, device := p.device(own.Network)
		in[namespace] = append(in[namespace], place{OwnEndpoints: own, device: device})
	}
	for namespace, places := range in {
		_ = within(namespace, func(kernel *nl.Handle) error {
			list, err := kernel.LinkList()
			links := make(map[string]netlink.Link, len(list))
			for _, link := range list {
				links[link.Attrs().Name] = link
			}
			for _, at := range places {
				at.kernel, at.links = kernel, links
				do(at)
			}
			return err
		})
	}
	return err
}

// statistics reads a device's counters, in the namespace at path or, without one, here.
func statistics(path, device string) (counted netlink.LinkStatistics, err error) {
	err = within(path, func(kernel *nl.Handle) error {
		link, err := kernel.Link(device)
		if err != nil {
			return err
		}
		if link.Attrs().Statistics == nil {
			return errors.New("the kernel gives no counters of " + device)
		}
		counted = *link.Attrs().Statistics
		return nil
	})
	return counted, err
}

// within opens the namespace at path or, without one, this.
func within(path string, do func(*nl.Handle) error) error {
	ns := netns.None()
	if path != "" {
		var err error
		if ns, err = nl.OpenNamespace(path); err != nil {
			return err
		}
		defer ns.Close()
	}
	kernel, err := nl.Open(ns)
	if err != nil {
		return err
	}
	defer kernel.Close()
	return do(kernel)
}
