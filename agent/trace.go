package agent

import (
	"context"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trace"
)

const tracePath = "/Agent.Trace"

// Trip is what to trace.
type Trip struct {
	From, To string
	// Port is TCP's; zero: an ICMP echo is sent.
	Port uint16
}

func handleTrace(server *plugin.Server, config Config) {
	plugin.Handle(server, tracePath, func(ctx context.Context, trip *Trip) (*trace.Result, error) {
		ctx = kvstore.FailFast(ctx)
		r := newReader(config.Store)
		tables := trace.Records{
			Hosts:     all[fabric.Host](ctx, r, records.HostsPrefix),
			Networks:  all[fabric.Network](ctx, r, records.NetworksPrefix),
			Endpoints: all[fabric.Endpoint](ctx, r, records.EndpointsPrefix),
		}
		if r.err != nil {
			return nil, r.err
		}
		result, err := config.tracer().Trace(ctx, tables, trip.From, trip.To, trip.Port)
		return &result, err
	})
}

// AnswerTrace watches for other hosts what comes here of their probes, until ctx ends.
func AnswerTrace(ctx context.Context, config Config) error { return config.tracer().Answer(ctx) }

func (c Config) tracer() trace.Tracer {
	return trace.Tracer{Host: c.Host, Store: c.Store, Planes: c.Planes, Tunnels: c.Tunnels, Device: c.Device, SandboxDir: c.SandboxDir}
}

// Trace follows a packet from a container of the agent's host to another.
func (c *Client) Trace(ctx context.Context, trip Trip) (trace.Result, error) {
	return ask[trace.Result](ctx, c, tracePath, trip)
}
