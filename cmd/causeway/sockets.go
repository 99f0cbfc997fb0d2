package main

import (
	"context"
	"net"

	"github.com/causeway-net/causeway/internal/plugin"
)

// sockets are what others reach this process at.
type sockets struct {
	// docker is the plugin's, agent that of the commands.
	docker, agent net.Listener
}

func openSockets(ctx context.Context, s settings) (sockets, error) {
	docker, err := plugin.Listen(ctx, s.socket)
	if err != nil {
		return sockets{}, err
	}
	agent, err := plugin.Listen(ctx, s.agentSocket)
	if err != nil {
		_ = docker.Close()
		return sockets{}, err
	}
	return sockets{docker, agent}, nil
}

func (s sockets) close() {
	_ = s.docker.Close()
	_ = s.agent.Close()
}
