package main

import (
	"context"
	"net"

	"github.com/causeway-net/causeway/internal/plugin"
)

// sockets are what others reach this process at.
type sockets struct {
	// docker are the plugin's, agent is that of the commands.
	docker []net.Listener
	agent  net.Listener
}

// openSockets opens the plugin's socket, and for a managed plugin the host's too:
// engines find a managed plugin by its full name alone, by the plain one only
// what answers in the host's /run/docker/plugins. That is the first: an engine
// that boots goes on when the plugin's own socket answers, and asks for networks
// by the plain name.
func openSockets(ctx context.Context, s settings) (opened sockets, err error) {
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	paths := []string{s.socket}
	if s.managed() {
		paths = []string{s.onHost(s.socket), s.socket}
	}
	for _, path := range paths {
		listener, err := plugin.Listen(ctx, path)
		if err != nil {
			return opened, err
		}
		opened.docker = append(opened.docker, listener)
	}
	opened.agent, err = plugin.Listen(ctx, s.onHost(s.agentSocket))
	return opened, err
}

func (s sockets) close() {
	for _, listener := range s.docker {
		_ = listener.Close()
	}
	if s.agent != nil {
		_ = s.agent.Close()
	}
}
