package agent

import (
	"context"

	"github.com/causeway-net/causeway/internal/plugin"
)

const trafficPath = "/Agent.Traffic"

// Traffic is what the devices of the agent's host have counted since they were made.
type Traffic struct {
	// Host is the agent's, by its key.
	Host string `json:"host"`
	// Networks are those that have a device of their own there, by ID.
	Networks map[string]Counters `json:"networks"`
}

// Counters are those of a network's device: what the host's containers got over it, and
// what they sent.
type Counters struct {
	ReceivedBytes   uint64 `json:"received_bytes"`
	ReceivedPackets uint64 `json:"received_packets"`
	SentBytes       uint64 `json:"sent_bytes"`
	SentPackets     uint64 `json:"sent_packets"`
}

func handleTraffic(server *plugin.Server, config Config) {
	plugin.Handle(server, trafficPath, func(ctx context.Context, _ *nothing) (*Traffic, error) {
		networks, err := config.Traffic(ctx)
		return &Traffic{config.Host.Name, networks}, err
	})
}

// Traffic asks what the devices of the agent's host have counted. It reads the kernel alone.
func (c *Client) Traffic(ctx context.Context) (Traffic, error) {
	return ask[Traffic](ctx, c, trafficPath, nothing{})
}
