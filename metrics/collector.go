package metrics

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/reconcile"
)

// patience is how long a scrape waits for the loop, which may wait for a kernel.
const patience = 2 * time.Second

// collector reads what the parts count. What cannot be read is left out of the scrape, and
// counted in promhttp_metric_handler_errors_total.
type collector struct{ Config }

// Describe says nothing: which figures there are depends on what there is.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := scrape{out}
	c.faults(s)
	c.drops(s)
	c.certificate(s)
	c.loop(s)
}

// scrape takes the figures of one.
type scrape struct{ out chan<- prometheus.Metric }

// gauge and counter take a figure with its labels, name and value in turn.
func (s scrape) gauge(name, help string, value float64, labels ...string) {
	s.add(prometheus.GaugeValue, name, help, value, labels)
}

func (s scrape) counter(name, help string, value uint64, labels ...string) {
	s.add(prometheus.CounterValue, name, help, float64(value), labels)
}

func (s scrape) add(kind prometheus.ValueType, name, help string, value float64, labels []string) {
	var keys, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		keys = append(keys, labels[i])
		values = append(values, strings.ToValidUTF8(labels[i+1], "�"))
	}
	desc := prometheus.NewDesc(name, help, keys, nil)
	figure, err := prometheus.NewConstMetric(desc, kind, value, values...)
	if err != nil {
		figure = prometheus.NewInvalidMetric(desc, err)
	}
	s.out <- figure
}

func (s scrape) failed(err error) {
	s.out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
}

// faults tells what is wrong on the host, and whether the store answers.
func (c *collector) faults(s scrape) {
	now := make(map[health.Part]int)
	up := 1.0
	for _, fault := range c.Board.Faults() {
		now[fault.Part]++
		if fault.Scope == (health.Scope{Part: health.Store}) {
			up = 0
		}
	}
	s.gauge("causeway_store_up", "1 while the store answers, else 0.", up)
	ever := c.Board.Begun()
	ever[health.Store] += 0 // an outage is seen as a step from 0
	for part, begun := range ever {
		s.gauge("causeway_faults", "What is wrong on this host now, by part.", float64(now[part]), "part", string(part))
		s.counter("causeway_faults_total", "Faults since causeway started, by part; those of the store are its outages.", begun, "part", string(part))
	}
}

func (c *collector) drops(s scrape) {
	drops, err := c.Drops()
	if err != nil {
		s.failed(err)
	}
	for _, drop := range drops {
		s.counter("causeway_drops_total", "Packets that the host's filter dropped since it booted, by reason.", drop.Packets, "reason", drop.Counter)
	}
}

func (c *collector) certificate(s scrape) {
	expiry, err := c.Expiry()
	if err != nil {
		s.failed(err)
	}
	if !expiry.IsZero() {
		s.gauge("causeway_certificate_expiry_timestamp_seconds", "When this host's certificate for the store ends.", float64(expiry.Unix()))
	}
}

// loop tells what the host has in view, and what was done with it.
func (c *collector) loop(s scrape) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	figures, err := c.Figures(ctx)
	if err != nil {
		s.failed(err)
		return
	}
	s.gauge("causeway_hosts", "Hosts of the cluster.", float64(figures.Hosts))
	s.gauge("causeway_networks", "Networks of the cluster.", float64(figures.Networks))
	for mode, work := range figures.Work {
		const reconciles = "Networks that were written to the kernel, by mode and kind."
		s.counter("causeway_reconciles_total", reconciles, work.Changes, "mode", string(mode), "kind", "change")
		s.counter("causeway_reconciles_total", reconciles, work.Wholes, "mode", string(mode), "kind", "whole")
		s.counter("causeway_reconcile_failures_total", "Networks that could not be written, by mode.", work.Failures, "mode", string(mode))
		s.counter("causeway_mends_total", "Entries and devices that others had changed and that were restored, by mode.", work.Mended, "mode", string(mode))
	}
	for _, network := range figures.Here {
		c.network(s, network)
	}
}

func (c *collector) network(s scrape, f reconcile.NetworkFigures) {
	network, name := f.Network, f.Network.Label()
	s.gauge("causeway_network_info", "Always 1; its labels say what the network is.", 1, "network", name, "id", network.ID, "mode", string(network.Mode))
	s.gauge("causeway_network_endpoints", "Endpoints on the network, on all hosts.", float64(f.Endpoints), "network", name)
	s.gauge("causeway_network_local_endpoints", "Endpoints on the network on this host.", float64(f.Local), "network", name)
	for family, a := range addresses(network, f.Endpoints) {
		s.gauge("causeway_network_addresses_used", "Addresses of endpoints, gateways and --aux-address, by family.", float64(a.used), "network", name, "family", family)
		if a.free >= 0 {
			s.gauge("causeway_network_addresses_free", "Addresses that nobody has, by family, where they can be counted.", float64(a.free), "network", name, "family", family)
		}
	}
	traffic, ok := c.Traffic(network)
	if !ok {
		return
	}
	const from, to = "that this host's containers got over the network's device.", "that this host's containers sent over the network's device."
	s.counter("causeway_network_receive_bytes_total", "Bytes "+from, traffic.ReceivedBytes, "network", name)
	s.counter("causeway_network_receive_packets_total", "Packets "+from, traffic.ReceivedPackets, "network", name)
	s.counter("causeway_network_transmit_bytes_total", "Bytes "+to, traffic.SentBytes, "network", name)
	s.counter("causeway_network_transmit_packets_total", "Packets "+to, traffic.SentPackets, "network", name)
}

type usage struct{ used, free int }

// addresses counts a network's, by family: each endpoint has one of each. free is -1 where
// they are past counting.
func addresses(network fabric.Network, endpoints int) map[string]usage {
	found := make(map[string]usage)
	for _, subnet := range network.Subnets {
		family := "ipv4"
		if subnet.Prefix.Addr().Is6() {
			family = "ipv6"
		}
		sum, known := found[family]
		if !known {
			sum.used = endpoints
		}
		sum.used += len(subnet.Aux)
		if subnet.Gateway.IsValid() {
			sum.used++
		}
		if size := doctor.Free(subnet, 0); size < 0 || sum.free < 0 {
			sum.free = -1
		} else {
			sum.free += size
		}
		found[family] = sum
	}
	for family, sum := range found {
		if sum.free >= 0 {
			found[family] = usage{sum.used, max(0, sum.free-sum.used)}
		}
	}
	return found
}
