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
	return metrics.Traffic(countersOf(network.Mode == fabric.ModeRouted, counted)), true
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
		all, err := loop.Own(ctx)
		read := agent.Traffic{Networks: make(map[string]agent.Counters), Containers: make(map[string]agent.Counters)}
		links := make(map[string]map[string]netlink.LinkStatistics) // by namespace and name
		for _, own := range all {
			namespace, device := p.device(own.Network)
			if links[namespace] == nil {
				links[namespace] = allStatistics(namespace)
			}
			if counted, ok := links[namespace][device]; ok {
				read.Networks[own.Network.ID] = countersOf(own.Network.Mode == fabric.ModeRouted, counted)
			}
			for _, id := range own.IDs {
				if counted, ok := links[namespace][nl.HostEnd(id)]; ok {
					read.Containers[own.Network.ID+"/"+id] = countersOf(true, counted)
				}
			}
		}
		return read, err
	}
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

// allStatistics reads those of all devices; none where they cannot be read.
func allStatistics(path string) map[string]netlink.LinkStatistics {
	counted := make(map[string]netlink.LinkStatistics)
	_ = within(path, func(kernel *nl.Handle) error { // what has no counters has no rate
		links, err := kernel.LinkList()
		for _, link := range links {
			if link.Attrs().Statistics != nil {
				counted[link.Attrs().Name] = *link.Attrs().Statistics
			}
		}
		return err
	})
	return counted
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
