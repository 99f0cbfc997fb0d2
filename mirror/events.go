package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/pause"
)

// retryAfter is the pause before a failed task is tried again.
const retryAfter = 2 * time.Second

// listen follows the engine's events, and waits for it while it is away.
func (m *Mirror) listen(ctx context.Context) error {
	begun := func() {
		m.kick()
		m.containers.Relist(true)
		m.checkPlugin(ctx)
	}
	for {
		err := m.engine.Watch(ctx, begun, func(event events.Message) { m.heard(ctx, event) })
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.reportEngine(err)
		if err := pause.For(ctx, retryAfter); err != nil {
			return err
		}
	}
}

func (m *Mirror) heard(ctx context.Context, event events.Message) {
	switch {
	case event.Type == events.PluginEventType:
		m.checkPlugin(ctx)
	case event.Type == events.ContainerEventType:
		m.containers.Changed(event.Actor.ID)
	case event.Action == events.ActionConnect:
		m.used(event.Actor.ID)
		m.containers.Changed(event.Actor.Attributes["container"])
	case event.Action == events.ActionDisconnect:
		m.containers.Changed(event.Actor.Attributes["container"])
	case event.Action == events.ActionDestroy:
		m.removedHere(event.Actor.ID)
		m.kick()
	case event.Action == events.ActionCreate:
		m.kick()
	}
}

// checkPlugin reports that the engine does not find the driver by its plain name:
// a managed plugin of that name with the tag latest hides it.
func (m *Mirror) checkPlugin(ctx context.Context) {
	has, err := m.engine.HasPlugin(ctx, m.Driver+":latest")
	if err != nil {
		return // the engine is away, which is reported elsewhere
	}
	if has {
		err = fmt.Errorf("the managed plugin %s:latest hides the driver %s from this engine: disable and remove it, and install it without --alias, or with another such as --alias %s:0.1",
			m.Driver, m.Driver, m.Driver)
	}
	m.Board.Report(health.Scope{Part: health.Plugin}, err)
}

// reportEngine reports whether the engine answers.
func (m *Mirror) reportEngine(err error) {
	switch {
	case err == nil:
	case client.IsErrConnectionFailed(err):
		err = fmt.Errorf("no Docker engine answers at %s", m.Socket)
	default:
		err = fmt.Errorf("the Docker engine at %s: %w", m.Socket, err)
	}
	m.Board.Report(health.Scope{Part: health.Engine}, err)
}
