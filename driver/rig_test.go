package driver

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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a data plane that writes down what it is asked for. What the real
// ones do to a kernel is their packages' tests, and the end-to-end ones'.
type ledger struct {
	mu       sync.Mutex
	segments map[string]fabric.Segment
	plugged  map[string]bool
	alive    map[string]bool
	fault    error
	applies  int
	checked  fabric.Network // what Check was last asked
	fewest   map[string]int // local endpoints that a network was ever applied with
}

func newLedger() *ledger {
	return &ledger{segments: map[string]fabric.Segment{}, plugged: map[string]bool{}, alive: map[string]bool{}, fewest: map[string]int{}}
}

func (l *ledger) Check(_ context.Context, n fabric.Network) error {
	l.set(func(l *ledger) { l.checked = n })
	if n.VNI == 4444 {
		return errors.New("vni 4444 is in use by docker's overlay")
	}
	return nil
}

func (l *ledger) Apply(_ context.Context, s fabric.Segment) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applies++
	if l.fault != nil {
		return 0, l.fault
	}
	l.segments[s.Network.ID] = s
	if fewest, known := l.fewest[s.Network.ID]; !known || len(s.Local) < fewest {
		l.fewest[s.Network.ID] = len(s.Local)
	}
	return 0, nil
}

func (l *ledger) Plug(_ context.Context, s fabric.Segment, e fabric.Endpoint) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, applied := l.segments[s.Network.ID]; !applied {
		return "", errors.New("plugged before it was applied")
	}
	l.plugged[e.ID], l.alive[e.ID] = true, true
	return fabric.DeviceName("cwc", e.ID), nil
}

func (l *ledger) Alive(_ context.Context, s fabric.Segment) (map[string]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	alive := map[string]bool{}
	for _, e := range s.Local {
		alive[e.ID] = l.alive[e.ID]
	}
	return alive, nil
}

func (l *ledger) Prune(_ context.Context, keep []fabric.Segment) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.segments {
		if !slices.ContainsFunc(keep, func(s fabric.Segment) bool { return s.Network.ID == id }) {
			delete(l.segments, id)
		}
	}
	return nil
}

func (l *ledger) Invalidate()                  {}
func (l *ledger) Drifted(context.Context) bool { return false }

func (l *ledger) segment(id string) (fabric.Segment, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.segments[id]
	return s, ok
}

func (l *ledger) set(change func(*ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

// host is one causeway, reached as Docker reaches it.
type host struct {
	t     *testing.T
	name  string
	plane *ledger
	// physical is the plane of mode=underlay.
	physical *ledger
	log      *bytes.Buffer
	client   *http.Client
	driver   *Driver
	stop     func()
}

var quick = Timing{
	Distrust: time.Hour, Retry: 10 * time.Millisecond, Reap: 20 * time.Millisecond, Grace: 60 * time.Millisecond, Lease: time.Second,
}

// startHost runs the driver of host number n until the test ends or stop is called.
func startHost(t *testing.T, store kvstore.Store, n int) *host {
	t.Helper()
	return startNode(t, store, n, network.LocalScope, false)
}

// startNode is startHost with a scope, and where mirrored says so with a mirror
// announced.
func startNode(t *testing.T, store kvstore.Store, n int, scope string, mirrored bool) *host {
	t.Helper()
	return startWith(t, store, n, func(c *Config) { c.Scope, c.Host.Mirror = scope, mirrored })
}

// startWith is startHost with what change makes of its configuration.
func startWith(t *testing.T, store kvstore.Store, n int, change func(*Config)) *host {
	t.Helper()
	h := &host{t: t, name: fmt.Sprint("h", n), plane: newLedger(), physical: newLedger(), log: &bytes.Buffer{}}
	logger := logrus.New()
	logger.SetOutput(io.MultiWriter(t.Output(), h.log))
	config := Config{
		Host:    fabric.Host{Name: h.name, VTEP: netip.AddrFrom4([4]byte{10, 99, 0, byte(n)}), MTU: 1500},
		Store:   store,
		VTEPNet: netip.MustParsePrefix("10.99.0.0/24"),
		Scope:   network.LocalScope,
		Planes:  map[fabric.Mode]fabric.Dataplane{fabric.ModeVXLAN: h.plane, fabric.ModeUnderlay: h.physical},
		Log:     logrus.NewEntry(logger),
		Timing:  quick,
	}
	change(&config)
	h.name = config.Host.Name
	d := New(config)
	h.driver = d
	server := plugin.NewServer(d.Log, "NetworkDriver")
	d.Register(server)
	path := filepath.Join(t.TempDir(), "causeway.sock")
	listener, err := plugin.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	h.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- d.Run(ctx) }()
	go func() { done <- server.Serve(ctx, listener) }()
	h.stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := errors.Join(<-done, <-done); err != nil {
			t.Errorf("%s: %v", h.name, err)
		}
	})
	t.Cleanup(h.stop)
	return h
}

// call sends one request and returns the answer or Docker's error.
func call[Resp any](h *host, method string, request any) (Resp, error) {
	h.t.Helper()
	var answer struct {
		Err string
	}
	var value Resp
	body, err := json.Marshal(request)
	if err != nil {
		h.t.Fatal(err)
	}
	response, err := h.client.Post("http://plugin/NetworkDriver."+method, "", bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal(text, &answer), json.Unmarshal(text, &value)); err != nil {
		h.t.Fatalf("%s answers %s: %v", method, text, err)
	}
	if response.StatusCode != http.StatusOK {
		return value, errors.New(answer.Err)
	}
	return value, nil
}

// must is call for what has to succeed.
func must[Resp any](h *host, method string, request any) Resp {
	h.t.Helper()
	answer, err := call[Resp](h, method, request)
	if err != nil {
		h.t.Fatalf("%s: %s: %v", h.name, method, err)
	}
	return answer
}

// creation is a CreateNetwork as engine 28.5 sends it for --subnet and -o pairs.
func creation(dockerID, subnet string, pairs ...string) *network.CreateNetworkRequest {
	generic := map[string]any{}
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		generic[key] = value
	}
	data := &network.IPAMData{AddressSpace: "LocalDefault", Pool: subnet}
	if prefix, err := netip.ParsePrefix(subnet); err == nil {
		data.Gateway = netip.PrefixFrom(prefix.Masked().Addr().Next(), prefix.Bits()).String()
	}
	return &network.CreateNetworkRequest{
		NetworkID: dockerID,
		Options:   map[string]any{labelGeneric: generic, labelIPv6: false},
		IPv4Data:  []*network.IPAMData{data},
	}
}

func endpointOn(dockerID, id, address string) *network.CreateEndpointRequest {
	return &network.CreateEndpointRequest{
		NetworkID: dockerID, EndpointID: id, Interface: &network.EndpointInterface{Address: address},
	}
}

// enter has an engine put a container on its network.
func enter(h *host, dockerID, id, address string) {
	h.t.Helper()
	must[network.CreateEndpointResponse](h, "CreateEndpoint", endpointOn(dockerID, id, address))
	must[network.JoinResponse](h, "Join", &network.JoinRequest{NetworkID: dockerID, EndpointID: id})
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("never happened: %s", what)
		case <-tick.C:
		}
	}
}

// records are all that the store holds, as text.
func contents(t *testing.T, store kvstore.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, prefix := range []string{
		records.NetworksPrefix, records.NamesPrefix, records.VNIsPrefix, records.AttachmentsPrefix,
		records.EndpointsPrefix, records.PoolsPrefix, records.AddressesPrefix, records.MembersPrefix,
	} {
		snapshot, err := store.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		for key, item := range snapshot.Items {
			all[key] = string(item.Value)
		}
	}
	return all
}
