package agent

import (
	"context"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
)

const doctorPath = "/Agent.Doctor"

// Diagnosis is what doctor found.
type Diagnosis struct {
	Findings []doctor.Finding `json:"findings"`
}

func handleDoctor(server *plugin.Server, config Config) {
	plugin.Handle(server, doctorPath, func(ctx context.Context, _ *nothing) (*Diagnosis, error) {
		return &Diagnosis{doctor.Examine(kvstore.FailFast(ctx), doctor.Inputs{
			Host: config.Host, Faults: config.Faults(), Store: config.Store, Planes: config.Planes, Drops: config.Drops,
			Records: func(ctx context.Context) (doctor.Records, error) {
				r := newReader(config.Store)
				return r.tables(ctx), r.err
			},
		})}, nil
	})
}

// Doctor asks what is wrong on the agent's host, and in the cluster as it sees it.
func (c *Client) Doctor(ctx context.Context) (Diagnosis, error) {
	return ask[Diagnosis](ctx, c, doctorPath, nothing{})
}
