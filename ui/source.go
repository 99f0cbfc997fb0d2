package ui

import (
	"context"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/internal/pause"
)

// again is how long after the agent ended it is asked again.
const again = time.Second

// follow brings what the agent tells into the hub, until ctx ends. While the agent is away
// the page keeps what it last had, and says so. A fault is logged once, and its end.
func follow(ctx context.Context, config Config, h *hub) {
	m := newModel(h)
	failing := false
	for ctx.Err() == nil {
		err := config.Source.Follow(ctx, func(change agent.Change) {
			if failing {
				failing = false
				config.Log.Info("the agent answers again")
			}
			h.put(agentKey, Agent{})
			m.apply(change)
		})
		if ctx.Err() != nil {
			return
		}
		h.put(agentKey, Agent{Error: err.Error()})
		if !failing {
			failing = true
			config.Log.WithError(err).Warn("the cluster cannot be followed")
		}
		_ = pause.For(ctx, again) // the loop looks at ctx
	}
}

// whileWatched calls do every so often while a page is open, and when the first is opened.
func whileWatched(ctx context.Context, h *hub, every time.Duration, do func(context.Context)) {
	for ctx.Err() == nil {
		watched, arrived := h.watched()
		if !watched {
			select {
			case <-ctx.Done():
			case <-arrived:
			}
			continue
		}
		do(ctx)
		_ = pause.For(ctx, every) // the loop looks at ctx
	}
}
