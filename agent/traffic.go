package agent

import (
	"context"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/talk"
)

const (
	trafficPath = "/Agent.Traffic"
	talkPath    = "/Agent.Talk"
)

// Traffic is what the devices of the agent's host have counted since they were made.
type Traffic struct {
	// Host is the agent's, by its key.
	Host string `json:"host"`
	// Networks are those that have a device of their own there, by ID.
	Networks map[string]Counters `json:"networks"`
	// Containers are those of the host, by network and endpoint: NETWORK/ENDPOINT.
	Containers map[string]Counters `json:"containers"`
}

// Counters are those of a device: what the host's containers, or the one, got over it, and
// what they sent.
type Counters struct {
	ReceivedBytes   uint64 `json:"received_bytes"`
	ReceivedPackets uint64 `json:"received_packets"`
	SentBytes       uint64 `json:"sent_bytes"`
	SentPackets     uint64 `json:"sent_packets"`
}

func handleTraffic(server *plugin.Server, config Config) {
	plugin.Handle(server, trafficPath, func(ctx context.Context, _ *nothing) (*Traffic, error) {
		read, err := config.Traffic(ctx)
		read.Host = config.Host.Name
		return &read, err
	})
	plugin.Handle(server, talkPath, func(ctx context.Context, _ *nothing) (*[]talk.Conversation, error) {
		rates, err := config.Talk(ctx)
		return &rates, err
	})
}

// Traffic asks what the devices of the agent's host have counted. It reads the kernel alone.
func (c *Client) Traffic(ctx context.Context) (Traffic, error) {
	return ask[Traffic](ctx, c, trafficPath, nothing{})
}

// Talk asks who talks to whom on the agent's host, as [talk.Meter.Rates] tells it.
func (c *Client) Talk(ctx context.Context) ([]talk.Conversation, error) {
	return ask[[]talk.Conversation](ctx, c, talkPath, nothing{})
}
