// Package metrics offers the figures of one host in Prometheus' format.
//
// A figure's path: Prometheus asks the server (server.go) for /metrics. Most figures are
// read there and then from the parts that count them anyway (collector.go): the board of
// faults, the loop's view, the packet filter, the kernel's devices. The times alone that
// calls and requests of the store take are noted as they end ([Metrics.Handled],
// [Metrics.Store]). Nothing lists a table of the store for it.
//
// docs/metrics.md has them all; a test compares.
package metrics

import (
	"context"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/reconcile"
)

// Config is where the figures are read.
type Config struct {
	Version string
	// Board is asked which faults there are and were.
	Board interface {
		Faults() []health.Fault
		Begun() map[health.Part]uint64
	}
	// Figures asks the loop what it has in view and has done.
	Figures func(ctx context.Context) (reconcile.Figures, error)
	// Drops tells what the host's packet filter kept out.
	Drops func() ([]hostfilter.Drop, error)
	// Traffic reads what a network's device on this host has counted; false where it
	// has none.
	Traffic func(network fabric.Network) (Traffic, bool)
	// Expiry says until when this host's certificate is good; the zero time where it
	// has none.
	Expiry func() (time.Time, error)
}

// Traffic is what passed between a network's containers here and elsewhere.
type Traffic struct {
	ReceivedBytes, ReceivedPackets, SentBytes, SentPackets uint64
}

// Metrics are the figures of one host.
type Metrics struct {
	registry *prometheus.Registry
	handlers *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	requests *prometheus.HistogramVec
	unserved *prometheus.CounterVec
}

// New registers all figures in registry, which is the caller's own.
func New(registry *prometheus.Registry, config Config) (*Metrics, error) {
	m := &Metrics{
		registry: registry,
		handlers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "causeway_handler_duration_seconds", Help: "How long calls of Docker's took, by handler.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"handler"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_handler_errors_total", Help: "Calls of Docker's that were refused, by handler.",
		}, []string{"handler"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "causeway_store_request_duration_seconds", Help: "How long requests to the store took, by operation.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"operation"}),
		unserved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "causeway_store_request_errors_total", Help: "Requests that the store did not answer, by operation.",
		}, []string{"operation"}),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "causeway_build_info", Help: "Always 1; its labels say what runs.",
	}, []string{"version", "goversion"})
	build.WithLabelValues(config.Version, runtime.Version()).Set(1)
	for _, each := range []prometheus.Collector{
		m.handlers, m.refused, m.requests, m.unserved, build, &collector{config},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(each); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Handled notes a call of Docker's that ended.
func (m *Metrics) Handled(handler string, took time.Duration, err error) {
	m.handlers.WithLabelValues(handler).Observe(took.Seconds())
	if err != nil {
		m.refused.WithLabelValues(handler).Inc()
	}
}
