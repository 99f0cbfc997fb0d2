package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/gateway"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/metrics"
	"github.com/causeway-net/causeway/reconcile"
	"github.com/causeway-net/causeway/underlay"
)

// offered are the figures that --metrics-listen offers; without it nothing is counted.
type offered struct {
	*metrics.Metrics
	listener net.Listener
}

// openMetrics makes what --metrics-listen asks for.
func (o opened) openMetrics(ctx context.Context, figures func(context.Context) (reconcile.Figures, error)) (offered, error) {
	if o.metricsListen == "" {
		return offered{}, nil
	}
	m, err := metrics.New(prometheus.NewRegistry(), metrics.Config{
		Version: o.host.Version, Board: o.board, Figures: figures, Drops: o.planes.filter.Drops,
		Traffic: o.planes.traffic, Expiry: o.certificateExpiry,
	})
	if err != nil {
		return offered{}, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.metricsListen)
	if err != nil {
		return offered{}, fmt.Errorf("--metrics-listen: %w", err)
	}
	if secure := o.metricsTLS(); secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	return offered{m, listener}, nil
}

// timed is store, with its requests timed.
func (f offered) timed(store kvstore.Store) kvstore.Store {
	if f.Metrics == nil {
		return store
	}
	return f.Store(store)
}

// handled is told Docker's calls; nil: nobody is.
func (f offered) handled() func(string, time.Duration, error) {
	if f.Metrics == nil {
		return nil
	}
	return f.Handled
}

func (f offered) run(ctx context.Context) error {
	if f.Metrics == nil {
		return nil
	}
	return f.Serve(ctx, f.listener)
}

// metricsTLS is what figures are offered with beyond this host; nil: in clear text.
func (o opened) metricsTLS() *tls.Config {
	switch {
	case !isInsecure(o.metricsListen, false):
		return nil
	case o.store.cluster != nil:
		return o.store.cluster.Dir.Server(false)
	case o.cert == "":
		return nil // --store-insecure, as check has it
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := o.ownCertificate() // at each handshake: it is renewed under us
		return &pair, err
	}}
}

func (s *settings) ownCertificate() (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(s.onHost(s.cert), s.onHost(s.key))
	if err != nil {
		return pair, fmt.Errorf("this host's certificate: %w", err)
	}
	return pair, nil
}

// certificateExpiry says until when this host's certificate is good.
func (o opened) certificateExpiry() (time.Time, error) {
	var certificate *x509.Certificate
	var err error
	switch {
	case o.store.cluster != nil:
		certificate, err = o.store.cluster.Dir.Certificate()
	case o.cert != "":
		var pair tls.Certificate
		pair, err = o.ownCertificate()
		certificate = pair.Leaf
	default:
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return certificate.NotAfter, nil
}

// checkMetrics refuses to offer figures in clear text to other hosts.
func (s *settings) checkMetrics() error {
	if s.metricsListen == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(s.metricsListen); err != nil {
		return fmt.Errorf("--metrics-listen is %q: it must be an address and a port, such as 127.0.0.1:9468", s.metricsListen)
	}
	if isInsecure(s.metricsListen, false) && !s.closed() && s.cert == "" && !s.storeInsecure {
		return fmt.Errorf("--metrics-listen %s would be in clear text: give --cert and --key, a loopback address, or accept it with --store-insecure", s.metricsListen)
	}
	return nil
}

// traffic reads the device that a network's traffic passes on its way to other hosts;
// Open vSwitch has none for each network.
func (p *planes) traffic(network fabric.Network) (metrics.Traffic, bool) {
	var namespace, device string
	switch network.Mode {
	case fabric.ModeVXLAN:
		namespace, device = p.vxlan.Device(network)
	case fabric.ModeRouted:
		device = gateway.LinkName(network)
	case fabric.ModeUnderlay:
		device = underlay.Device(network)
	default:
		return metrics.Traffic{}, false
	}
	counted, err := statistics(namespace, device)
	if err != nil {
		return metrics.Traffic{}, false // it is not here yet, or not any more
	}
	if network.Mode == fabric.ModeRouted { // its bridge is seen from the host's side
		return metrics.Traffic{
			ReceivedBytes: counted.TxBytes, ReceivedPackets: counted.TxPackets, SentBytes: counted.RxBytes, SentPackets: counted.RxPackets,
		}, true
	}
	return metrics.Traffic{
		ReceivedBytes: counted.RxBytes, ReceivedPackets: counted.RxPackets, SentBytes: counted.TxBytes, SentPackets: counted.TxPackets,
	}, true
}

// counters reads the devices of the networks that this host needs, for the agent.
func (p *planes) counters(loop *reconcile.Loop) func(context.Context) (map[string]agent.Counters, error) {
	return func(ctx context.Context) (map[string]agent.Counters, error) {
		figures, err := loop.Figures(ctx)
		counters := make(map[string]agent.Counters, len(figures.Here))
		for _, here := range figures.Here {
			if counted, ok := p.traffic(here.Network); ok {
				counters[here.Network.ID] = agent.Counters(counted)
			}
		}
		return counters, err
	}
}

// statistics reads a device's counters, in the namespace at path or, without one, here.
func statistics(path, device string) (netlink.LinkStatistics, error) {
	ns := netns.None()
	if path != "" {
		var err error
		if ns, err = nl.OpenNamespace(path); err != nil {
			return netlink.LinkStatistics{}, err
		}
		defer ns.Close()
	}
	kernel, err := nl.Open(ns)
	if err != nil {
		return netlink.LinkStatistics{}, err
	}
	defer kernel.Close()
	link, err := kernel.Link(device)
	if err != nil {
		return netlink.LinkStatistics{}, err
	}
	if link.Attrs().Statistics == nil {
		return netlink.LinkStatistics{}, errors.New("the kernel gives no counters of " + device)
	}
	return *link.Attrs().Statistics, nil
}
