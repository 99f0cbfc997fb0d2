package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/metrics"
	"github.com/causeway-net/causeway/reconcile"
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
