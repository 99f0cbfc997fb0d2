package agent

import (
	"context"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
)

const doctorPath = "/Agent.Doctor"

// Whom is the request of a diagnosis.
type Whom struct {
	// All asks the doctors of the other hosts, too, Talk who talks to whom there.
	All, Talk bool
}

func handleDoctor(server *plugin.Server, config Config) {
	plugin.Handle(server, doctorPath, func(ctx context.Context, request *Whom) (*doctor.Diagnosis, error) {
		ctx = kvstore.FailFast(ctx)
		if !request.All {
			found := doctor.Examine(ctx, config.inputs())
			return &found, nil
		}
		rounds := config.rounds()
		rounds.AskTalk = request.Talk
		found := doctor.ExamineAll(ctx, config.inputs(), rounds)
		return &found, nil
	})
}

// AnswerDoctor answers what other hosts ask this one's doctor, until ctx ends.
func AnswerDoctor(ctx context.Context, config Config) error { return config.rounds().Answer(ctx) }

func (c Config) rounds() doctor.Rounds {
	return doctor.Rounds{Store: c.Store, Host: c.Host.Name, Talk: c.Talk, Examine: func(ctx context.Context) doctor.Diagnosis {
		return doctor.ExamineHere(ctx, c.inputs())
	}}
}

func (c Config) inputs() doctor.Inputs {
	return doctor.Inputs{
		Host: c.Host, Faults: c.Faults(), Store: c.Store, Planes: c.Planes, Tunnels: c.Tunnels,
		RunDir: c.RunDir, SandboxDir: c.SandboxDir, Device: c.Device,
		HostNS: netns.None(), VXLANPort: c.VXLANPort, Certificates: c.Certificates, Drops: c.Drops,
		Records: func(ctx context.Context) (doctor.Records, error) {
			r := newReader(c.Store)
			return r.tables(ctx), r.err
		},
	}
}

// Doctor asks what is wrong on the agent's host, and in the cluster as it sees it, or on
// every host.
func (c *Client) Doctor(ctx context.Context, whom Whom) (doctor.Diagnosis, error) {
	return ask[doctor.Diagnosis](ctx, c, doctorPath, whom)
}
