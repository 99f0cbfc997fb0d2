package hammer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/driver"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/ipam"
	"github.com/causeway-net/causeway/kvstore"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// grace is that of the collectors. A writer that the machine has not let run for as long
// between two of its calls looks like a dead engine.
const grace = 3 * time.Second

// agent is one host's causeway from its start to its end.
type agent struct {
	*hosttest.Host
	client *http.Client
	stop   func()
}

// startAgent runs host number n on store, and on the kernel that its predecessor left.
func startAgent(t testing.TB, store kvstore.Store, n int, kernel *hosttest.Plane) *agent {
	t.Helper()
	a := &agent{Host: hosttest.Start(t, store, n, func(o *hosttest.Options) { o.Grace, o.Plane = grace, kernel })}
	a.Entry.Logger.SetLevel(logrus.PanicLevel)
	vteps := netip.MustParsePrefix("10.99.0.0/24")
	server := plugin.NewServer(a.Entry, "NetworkDriver", "IpamDriver")
	driver.New(driver.Config{
		Host: a.Host.Host, Store: store, VTEPNet: vteps, Scope: network.LocalScope, Reconciler: a.Loop, Membership: a.Member, Log: a.Entry,
	}).Register(server)
	ipam.New(ipam.Config{Host: a.Name, Store: store, VTEPNet: vteps, Claimed: a.Collector.Claimed}).Register(server)
	socket := filepath.Join(t.TempDir(), "causeway.sock")
	listener, err := plugin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	a.client = &http.Client{Transport: transport}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	a.stop = func() {
		transport.CloseIdleConnections()
		cancel()
		a.Stop()
		if err := <-served; err != nil {
			t.Errorf("%s: %v", a.Name, err)
		}
	}
	return a
}

// call is one request of Docker's.
func call[Resp any](ctx context.Context, a *agent, method string, request any) (Resp, error) {
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
		var answer struct{ Err string }
		_ = json.Unmarshal(text, &answer)
		return value, fmt.Errorf("%s: %s: %s", a.Name, method, answer.Err)
	}
	return value, json.Unmarshal(text, &value)
}

type nothing struct{}
