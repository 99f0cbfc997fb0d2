package main

import (
	"errors"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/names"
)

// newNames makes the resolver. Names come from the engine's socket: without it
// there are none, which is told.
func newNames(s settings, host fabric.Host, board *health.Board, log *logrus.Entry) *names.Server {
	if s.names && !host.Mirror {
		board.Report(health.Scope{Part: health.Names}, errors.New(
			"containers do not find each other by name: names are read from the engine's socket, and --docker-socket is none"))
	}
	return names.New(names.Config{
		Off: !s.names || !host.Mirror, Host: host.Name, EngineDir: s.onHost("/run/docker/netns"), Board: board, Log: log,
		// Docker names its sandboxes by /var/run, which is a link to /run.
		Path: func(path string) string { return s.onHost(strings.Replace(path, "/var/run/", "/run/", 1)) },
	})
}
