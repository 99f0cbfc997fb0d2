package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/driver"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/ipam"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/mirror"
	"github.com/causeway-net/causeway/vxlan"
)

func serveCommand() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "serve",
		Short: "Run this host's part of the networks: Docker's plugin and the data planes",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			if err := s.check(); err != nil {
				return err
			}
			return serve(command.Context(), s)
		},
	}
	s.register(command.Flags())
	documentEnv(command.Flags())
	return command
}

// serve opens the socket first: an engine waits for it some ten seconds, and the
// store may take longer to come up.
func serve(ctx context.Context, s settings) error {
	log, err := newLog(s.logLevel)
	if err != nil {
		return err
	}
	if err := checkPrivileges(); err != nil {
		return err
	}
	host, vtepNet, err := findHost(s)
	if err != nil {
		return err
	}
	host.Mirror = s.docker != "" && s.docker != "none"
	listener, err := plugin.Listen(ctx, s.socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	agentListener, err := plugin.Listen(ctx, s.agentSocket)
	if err != nil {
		return err
	}
	defer agentListener.Close()
	store, err := openStore(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			log.Warn(err)
		}
	}()
	planes, err := openPlanes(s, log)
	if err != nil {
		return err
	}
	networks := driver.New(driver.Config{
		Host: host, Store: store, VTEPNet: vtepNet, Scope: s.scope, Planes: planes, Log: log,
	})
	addresses := ipam.New(ipam.Config{Host: host.Name, Store: store, VTEPNet: vtepNet, Log: log})
	server := plugin.NewServer(log, "NetworkDriver", "IpamDriver")
	networks.Register(server)
	addresses.Register(server)

	mirrored := mirror.New(mirror.Config{Host: host.Name, Store: store, Socket: s.docker, Driver: driverName(s.socket), Log: log})
	asked := agent.NewServer(agent.Config{Host: host, Store: store, Troubles: mirrored.Troubles, Log: log})

	log.WithFields(logrus.Fields{
		"version": host.Version, "host": host.Name, "vtep": host.VTEP, "socket": s.socket, "scope": s.scope,
	}).Info("causeway serves")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener) })
	group.Go(func() error { return asked.Serve(ctx, agentListener) })
	group.Go(func() error { return networks.Run(ctx) })
	if host.Mirror {
		group.Go(func() error { return mirrored.Run(ctx) })
	}
	group.Go(func() error { kickOnHangup(ctx, networks); return nil })
	return group.Wait()
}

// driverName is what the engine calls the plugin behind a socket: the file's
// name without its ending.
func driverName(socket string) string {
	return strings.TrimSuffix(filepath.Base(socket), filepath.Ext(socket))
}

// recordStore is a Store that this process opened.
type recordStore interface {
	kvstore.Store
	Close() error
}

func openStore(ctx context.Context, s settings, log *logrus.Entry) (recordStore, error) {
	if len(s.store) > 0 {
		return kvstore.Open(kvstore.Config{
			Endpoints: s.store, Prefix: s.storePrefix, CACert: s.caCert, Cert: s.cert, Key: s.key,
			Username: s.username, Password: s.password, Log: log,
		})
	}
	return kvstore.StartEmbedded(ctx, kvstore.EmbeddedConfig{
		DataDir: s.dataDir, Listen: s.storeListen, Prefix: s.storePrefix,
		CACert: s.caCert, Cert: s.cert, Key: s.key, Log: log,
	})
}

func openPlanes(s settings, log *logrus.Entry) (map[fabric.Mode]driver.Dataplane, error) {
	tunnels, err := vxlan.New(vxlan.Config{Port: int(s.vxlanPort), Log: log})
	if err != nil {
		return nil, err
	}
	return map[fabric.Mode]driver.Dataplane{fabric.ModeVXLAN: tunnels}, nil
}

// kickOnHangup reads the kernel back at once on SIGHUP, for those who changed it by hand.
func kickOnHangup(ctx context.Context, networks *driver.Driver) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			networks.Kick()
		}
	}
}

func newLog(level string) (*logrus.Entry, error) {
	logger := logrus.New()
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level is %q: it must be error, warn, info or debug", level)
	}
	logger.SetLevel(parsed)
	logger.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	return logrus.NewEntry(logger), nil
}
