package scale

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/driver"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/ipam"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/membership"
	"github.com/causeway-net/causeway/mirror"
	"github.com/causeway-net/causeway/reconcile"
	"github.com/causeway-net/causeway/reconcile/collect"
	"github.com/causeway-net/causeway/records"
)

// agent is one host's causeway.
type agent struct {
	fabric.Host
	plane  *plane
	store  *kvstore.Etcd
	client *http.Client
	stop   func() error
}

func hostOf(n int) fabric.Host {
	return fabric.Host{Name: fmt.Sprintf("h%04d", n), VTEP: netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}), MTU: 1500, Mirror: true}
}

// startAgent runs host number n; its sockets are in dir.
func startAgent(etcd, dir string, n int, arrived *arrivals) (*agent, error) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	if os.Getenv("CAUSEWAY_BENCH_LOG") != "" {
		logger.SetOutput(os.Stderr)
	}
	log := logrus.NewEntry(logger)
	host, board := hostOf(n), health.New(log)
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{etcd}, Board: board})
	if err != nil {
		return nil, err
	}
	a := &agent{Host: host, store: store, plane: &plane{arrivals: arrived, host: host.Name, applied: map[string]int{}}}
	member := membership.New(membership.Config{Host: host, Store: store, Board: board, Log: log})
	loop := reconcile.New(reconcile.Config{
		Host: host, Store: store, Membership: member, Board: board, Log: log,
		Planes: map[fabric.Mode]fabric.Dataplane{fabric.ModeVXLAN: a.plane},
	})
	collector := collect.New(collect.Config{
		Records: records.Records{Store: store, Host: host.Name}, Loop: loop, Refusal: member.Refusal, Board: board, Log: log,
	})
	mirrored, err := mirror.New(mirror.Config{
		Host: host.Name, Store: store, Socket: filepath.Join(dir, "none.sock"), Driver: "causeway", Ready: member.Ready, Board: board, Log: log,
	})
	if err != nil {
		return nil, err
	}
	vteps := netip.MustParsePrefix("172.16.0.0/12")
	server := plugin.NewServer(log, "NetworkDriver", "IpamDriver")
	early := &records.EarlyReleases{}
	driver.New(driver.Config{
		Host: host, Store: store, VTEPNet: vteps, Scope: "local", Reconciler: loop, Membership: member, Early: early, Log: log,
	}).Register(server)
	ipam.New(ipam.Config{Host: host.Name, Store: store, VTEPNet: vteps, Early: early, Claimed: collector.Claimed}).Register(server)
	ctx, cancel := context.WithCancel(context.Background())
	socket := filepath.Join(dir, host.Name+".sock")
	listener, err := plugin.Listen(ctx, socket)
	if err != nil {
		cancel()
		return nil, err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	a.client = &http.Client{Transport: transport}
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		member.Run, loop.Run, collector.Run, mirrored.Run,
		func(ctx context.Context) error { return server.Serve(ctx, listener) },
	} {
		group.Go(func() error { return run(ctx) })
	}
	a.stop = func() error {
		transport.CloseIdleConnections()
		cancel()
		return errors.Join(group.Wait(), store.Close())
	}
	return a, nil
}

// call is one request of Docker's.
func call[Resp any](ctx context.Context, a *agent, method string, request any) (Resp, error) {
	var answer struct{ Err string }
	var value Resp
	body, err := json.Marshal(request)
	if err != nil {
		return value, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return value, err
	}
	response, err := a.client.Do(post)
	if err != nil {
		return value, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return value, err
	}
	if response.StatusCode != http.StatusOK {
		_ = json.Unmarshal(text, &answer)
		return value, fmt.Errorf("%s: %s: %s", a.Name, method, answer.Err)
	}
	return value, json.Unmarshal(text, &value)
}

// nobody is an agent that answers all calls with nothing.
func nobody(t *testing.T) (*agent, func()) {
	socket := filepath.Join(t.TempDir(), "nobody.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "{}")
	})}
	go func() { _ = server.Serve(listener) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return &agent{client: &http.Client{Transport: transport}}, func() {
		transport.CloseIdleConnections()
		_ = server.Close()
	}
}
