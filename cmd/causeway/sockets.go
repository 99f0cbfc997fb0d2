package main

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/causeway-net/causeway/internal/plugin"
)

// sockets are what others reach this process at.
type sockets struct {
	// docker are the plugin's, agent is that of the commands.
	docker []net.Listener
	agent  net.Listener
	// host is taken for being here: see claimHost.
	host net.Listener
}

// claimHost takes the one place that a host's network namespace has for a
// causeway, be it a plugin or a binary: two would undo each other's work in the
// kernel. No file is left behind, abstract sockets end with their process (unix(7)).
func claimHost(ctx context.Context) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", "@causeway")
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.New("another causeway runs on this host")
	}
	return listener, err
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
	if opened.agent, err = plugin.Listen(ctx, s.onHost(s.agentSocket)); err != nil {
		return opened, err
	}
	opened.host, err = claimHost(ctx)
	return opened, err
}

func (s sockets) close() {
	for _, listener := range append(s.docker, s.agent, s.host) {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
