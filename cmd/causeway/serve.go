package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/driver"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/faults"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/ipam"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/membership"
	"github.com/causeway-net/causeway/mirror"
	"github.com/causeway-net/causeway/reconcile"
	"github.com/causeway-net/causeway/reconcile/collect"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/underlay"
	"github.com/causeway-net/causeway/wireguard"
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

// serve opens the sockets first: an engine waits for them some ten seconds, and
// the store may take longer to come up. A second causeway ends there, before it
// changes anything.
func serve(ctx context.Context, s settings) error {
	log, err := newLog(s)
	if err != nil {
		return err
	}
	recent := &agent.Recent{}
	log.Logger.AddHook(recent)
	if err := prepare(s); err != nil {
		return err
	}
	sockets, err := openSockets(ctx, s)
	if err != nil {
		return err
	}
	defer sockets.close()
	folder, err := takeDataDir(s.dataDir)
	if err != nil {
		return err
	}
	defer folder.Close()
	planes, err := openUnderlay(ctx, s, log)
	if err != nil {
		return err
	}
	defer warn(log, planes.close)
	self, err := readIdentity(s)
	if err != nil {
		return err
	}
	host, vtepNet, err := findHost(s, self)
	if err != nil {
		return err
	}
	board := health.New(log)
	if err := planes.openTunnels(s, host, board, log); err != nil {
		return err
	}
	if planes.encryption, err = wireguard.Open(wireguard.Config{
		Host: host, Port: s.wireguardPort, Path: filepath.Join(s.dataDir, "wireguard.json"), Age: s.wireguardKeyAge, Managed: s.managed(),
		Filter: planes.filter, Board: board, Log: log,
	}); err != nil {
		return err
	}
	host.Ends = planes.encryption.Ends()
	store, err := openStore(ctx, s, self, host, board, log)
	if err != nil {
		return err
	}
	defer warn(log, store.Close)
	store.wish(&host, s.storeMember)
	return opened{
		settings: s, self: self, log: log, recent: recent, board: board, sockets: sockets, planes: planes, host: host, vtepNet: vtepNet, store: store,
	}.run(ctx)
}

// opened is what serve has opened for the parts of causeway.
type opened struct {
	settings
	self    *identity
	log     *logrus.Entry
	recent  *agent.Recent
	board   *health.Board
	sockets sockets
	planes  *planes
	host    fabric.Host
	vtepNet netip.Prefix
	store   *store
}

// run makes the parts and runs them until ctx ends or one of them fails.
func (o opened) run(ctx context.Context) error {
	host, board, log, probe := o.host, o.board, o.log, o.planes.underlay.Probe
	points, shared, planes := o.faulty()
	var loop *reconcile.Loop
	figures, err := o.openMetrics(ctx, func(ctx context.Context) (reconcile.Figures, error) { return loop.Figures(ctx) })
	if err != nil {
		return err
	}
	shared = figures.timed(shared)
	member := membership.New(membership.Config{Host: host, Store: shared, Expiry: o.hostExpiry, Board: board, Log: log})
	mirrored, err := mirror.New(mirror.Config{
		Host: host.Name, Store: shared, Socket: o.onHost(o.docker), Driver: driverName(o.socket),
		Ready: member.Ready, Board: board, Log: log,
	})
	if err != nil {
		return err
	}
	resolver := newNames(o.settings, host, board, log)
	loop = reconcile.New(reconcile.Config{
		Host: host, Store: shared, Planes: planes, Membership: member, Names: resolver, Encryption: o.planes.encryption, Hosts: o.protect, Board: board, Log: log,
	})
	collector := collect.New(collect.Config{
		Records: records.Records{Store: shared, Host: host.Name}, Loop: loop, Refusal: member.Refusal, Board: board, Log: log,
	})
	early := &records.EarlyReleases{}
	networks := driver.New(driver.Config{
		Host: host, Store: shared, VTEPNet: o.vtepNet, Scope: o.scope, Reconciler: loop, Membership: member,
		Engine: engineOf(host, mirrored), Early: early, Names: resolver, Probe: probe, Log: log,
	})
	addresses := ipam.New(ipam.Config{
		Host: host.Name, Store: shared, VTEPNet: o.vtepNet, Claimed: collector.Claimed, Early: early, Probe: probe,
	})
	answers := agent.Config{
		Host: host, Store: o.store.etcd, Faults: board.Faults, Drops: o.planes.filter.Drops, PortDrops: o.planes.drops, Traffic: o.planes.counters(loop), Talk: o.planes.talks(loop), Planes: loop, Tunnels: o.planes.vxlan, VXLANPort: o.vxlanPort, Device: underlay.Device, Certificates: o.ownCertificates(),
		RunDir: o.onHost("/run"), SandboxDir: o.onHost("/run/docker/netns"), Resolve: resolver.Resolve, Roles: o.store.roles(), Backup: o.store.etcd.Backup,
		NewToken: o.store.newToken, PluginName: o.pluginName, Rotate: o.store.rotate, Keys: o.planes.encryption, Profiles: o.profiles, FaultPoints: points, Recent: o.recent, Log: log,
	}

	log.WithFields(logrus.Fields{
		"version": host.Version, "host": host.Shown(), "vtep": host.VTEP, "socket": o.socket, "scope": o.scope,
	}).Info("causeway serves")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveDocker(ctx, o.sockets.docker, networks, addresses, figures.handled(), log) })
	group.Go(func() error { return figures.run(ctx) })
	group.Go(func() error { return agent.NewServer(answers).Serve(ctx, o.sockets.agent) })
	group.Go(func() error { return ended(ctx, agent.AnswerDoctor(ctx, answers)) })
	group.Go(func() error { return ended(ctx, agent.AnswerTrace(ctx, answers)) })
	group.Go(func() error { return member.Run(ctx) })
	group.Go(func() error { return o.keepHost(ctx, member) })
	group.Go(func() error { return loop.Run(ctx) })
	group.Go(func() error { return o.planes.filter.Watch(ctx) })
	group.Go(func() error { return o.encrypt(ctx, shared, member, loop) })
	group.Go(func() error { return resolver.Run(ctx) })
	group.Go(func() error { return collector.Run(ctx) })
	if host.Mirror {
		group.Go(func() error { return mirrored.Run(ctx) })
	}
	group.Go(func() error { return o.store.Run(ctx) })
	group.Go(func() error { kickOnHangup(ctx, loop); return nil })
	group.Go(func() error { return notifySystemd(ctx, o.onHost(o.socket), log) })
	return group.Wait()
}

// encrypt keeps this host's end of encrypted networks, and its keys: the other hosts are
// told of one first, then its own planes.
func (o opened) encrypt(ctx context.Context, store kvstore.Store, member *membership.Member, loop *reconcile.Loop) error {
	device := o.planes.encryption
	publish := func(ctx context.Context, ends fabric.Ends) error {
		if err := member.Encrypt(ctx, ends); err != nil {
			return err
		}
		return loop.Encrypt(ctx, ends)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return device.Run(ctx) })
	group.Go(func() error { return device.KeepKeys(ctx, publish) })
	group.Go(func() error { return ended(ctx, records.FollowKeyAsks(ctx, store, o.host.Name, device.Replace)) })
	return group.Wait()
}

// keepHost notes this host's key once it has been accepted under it.
func (o opened) keepHost(ctx context.Context, member *membership.Member) error {
	if member.Ready(ctx) != nil {
		return nil // the end
	}
	return o.self.keepHost()
}

// ended leaves out what ended because ctx did.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// protect keeps this host's containers away from the tunnels and ports of all hosts,
// and tells whom encrypted networks lead to.
func (o opened) protect(hosts map[string]fabric.Host) {
	addresses := make([]netip.Addr, 0, len(hosts))
	var ends []netip.Addr
	for name, host := range hosts {
		addresses = append(addresses, host.VTEP.Unmap())
		for _, end := range host.AllEnds() {
			if name != o.host.Name {
				ends = append(ends, end.Addr())
			}
		}
	}
	o.planes.encryption.SetHosts(hosts)
	o.board.Report(health.Scope{Part: health.Filter}, errors.Join(o.planes.filter.Protect(addresses), o.planes.filter.SealEnds(ends)))
}

// faulty gives what the parts write to; with --fault-points it passes the points.
func (o opened) faulty() (*faults.Points, kvstore.Store, map[fabric.Mode]fabric.Dataplane) {
	if !o.faultPoints {
		return nil, o.store, o.planes.byMode()
	}
	points := faults.New()
	return points, points.Store(o.store), points.Planes(o.planes.byMode())
}

// engineOf is the engine that the driver's handlers may ask; nil without a mirror.
func engineOf(host fabric.Host, mirrored *mirror.Mirror) driver.Engine {
	if !host.Mirror {
		return nil
	}
	return mirrored
}

func warn(log *logrus.Entry, do func() error) {
	if err := do(); err != nil {
		log.Warn(err)
	}
}

// serveDocker answers both of Docker's protocols.
func serveDocker(ctx context.Context, listeners []net.Listener, networks *driver.Driver, addresses *ipam.IPAM,
	handled func(string, time.Duration, error), log *logrus.Entry,
) error {
	server := plugin.NewServer(log, "NetworkDriver", "IpamDriver")
	server.Observe = handled
	networks.Register(server)
	addresses.Register(server)
	return server.Serve(ctx, listeners...)
}

// driverName is what the engine calls the plugin behind a socket: the file's
// name without its ending.
func driverName(socket string) string {
	return strings.TrimSuffix(filepath.Base(socket), filepath.Ext(socket))
}

// kickOnHangup reads the kernel back at once on SIGHUP, for those who changed it by hand.
func kickOnHangup(ctx context.Context, loop *reconcile.Loop) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			loop.Kick()
		}
	}
}

func newLog(s settings) (*logrus.Entry, error) {
	logger := logrus.New()
	parsed, err := logrus.ParseLevel(s.logLevel)
	if err != nil {
		return nil, fmt.Errorf("--log-level is %q: it must be error, warn, info or debug", s.logLevel)
	}
	logger.SetLevel(parsed)
	if s.managed() {
		logger.SetOutput(os.Stdout) // what comes from stderr is an error in the engine's log
	}
	logger.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	return logrus.NewEntry(logger), nil
}
