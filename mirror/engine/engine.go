// Package engine is the client of the local Docker engine: what the mirror asks of
// its API, with a deadline for each request.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/client"
)

// Engine is the local Docker engine through its API, from version 1.41 (engine
// 20.10) on.
type Engine struct {
	api *client.Client
	// turn is had by who agrees on the version of the API with the engine; agreed says
	// that this was done.
	turn   chan struct{}
	agreed atomic.Bool
}

// requestTime bounds one request: creating a network makes the engine call the driver.
const requestTime = 30 * time.Second

// Open makes the client of the engine at socket; nothing is asked yet.
func Open(socket string) (*Engine, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	// In this order: the client refuses to set a host on a foreign transport.
	api, err := client.New(
		client.WithHost("unix://"+socket),
		client.WithHTTPClient(&http.Client{Transport: plainGateways{transport}}),
	)
	if err != nil {
		return nil, fmt.Errorf("engine at %s: %w", socket, err)
	}
	return &Engine{api: api, turn: make(chan struct{}, 1)}, nil
}

// begin bounds a request, and agrees on the API's version before the first. The client would
// do so by itself, under a lock that knows no deadline: while one request waits for an engine
// that hangs, as it does where it waits for a handler of ours, all others would.
func (e *Engine) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	if e.agreed.Load() {
		return ctx, cancel, nil
	}
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-e.turn }()
	_, err := e.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil {
		cancel()
		return nil, nil, err
	}
	e.agreed.Store(true)
	return ctx, cancel, nil
}

// Close ends all connections.
func (e *Engine) Close() { _ = e.api.Close() }

// Networks lists what the engine has, a swarm's included.
func (e *Engine) Networks(ctx context.Context) ([]network.Network, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	list, err := e.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, err
	}
	var networks []network.Network
	for _, summary := range list.Items {
		networks = append(networks, summary.Network)
	}
	return networks, nil
}

// Create creates a network and returns Docker's NetworkID.
func (e *Engine) Create(ctx context.Context, name string, options client.NetworkCreateOptions) (string, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return "", err
	}
	defer cancel()
	made, err := e.api.NetworkCreate(ctx, name, options)
	return made.ID, err
}

// Remove removes a network.
func (e *Engine) Remove(ctx context.Context, id string) error {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	_, err = e.api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	return err
}

// Endpoints gives the names of the running containers on a network, by endpoint
// ID; none for a network that is not there.
func (e *Engine) Endpoints(ctx context.Context, id string) (map[string]string, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	found, err := e.api.NetworkInspect(ctx, id, client.NetworkInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(found.Network.Containers))
	for _, container := range found.Network.Containers {
		names[container.EndpointID] = container.Name
	}
	return names, nil
}

// Containers lists the engine's containers, stopped ones included.
func (e *Engine) Containers(ctx context.Context, filters client.Filters) ([]container.Summary, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel()
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})
	return list.Items, err
}

// Container reads one container; there says that the engine has it.
func (e *Engine) Container(ctx context.Context, id string) (found container.InspectResponse, there bool, err error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return found, false, err
	}
	defer cancel()
	result, err := e.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return found, false, nil
	}
	return result.Container, err == nil, err
}

// HasPlugin says whether a managed plugin of that name is enabled.
func (e *Engine) HasPlugin(ctx context.Context, name string) (bool, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return false, err
	}
	defer cancel()
	list, err := e.api.PluginList(ctx, client.PluginListOptions{})
	return slices.ContainsFunc(list.Items, func(p plugin.Plugin) bool { return p.Enabled && p.Name == name }), err
}

// PluginName is the name, with its tag, that the managed plugin with an ID that is ours
// was installed by; empty where there is none.
func (e *Engine) PluginName(ctx context.Context, ours func(id string) bool) (string, error) {
	ctx, cancel, err := e.begin(ctx)
	if err != nil {
		return "", err
	}
	defer cancel()
	list, err := e.api.PluginList(ctx, client.PluginListOptions{})
	for _, p := range list.Items {
		if ours(p.ID) {
			return cmp.Or(p.PluginReference, p.Name), nil
		}
	}
	return "", err
}

// Watch calls begun when no event can be missed any more, then heard with each
// event of a network, a container or a plugin, until ctx ends or the engine goes
// away.
func (e *Engine) Watch(ctx context.Context, begun func(), heard func(events.Message)) error {
	_, cancel, err := e.begin(ctx)
	if err != nil {
		return err
	}
	cancel() // it is without end from here on
	stream := e.api.Events(ctx, client.EventsListOptions{Filters: make(client.Filters).
		Add("type", "network", "container", "plugin").
		Add("event", "create", "destroy", "connect", "disconnect", "rename", "start", "die", "enable", "disable", "remove")})
	begun()
	for {
		select {
		case event := <-stream.Messages:
			heard(event)
		case err := <-stream.Err:
			if err == nil || errors.Is(err, io.EOF) {
				err = errors.New("it ended the stream of events")
			}
			return err
		}
	}
}
