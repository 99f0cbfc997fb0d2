package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/ipam"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestMain(m *testing.M) { storetest.Main(m) }

// host is one causeway, reached as Docker reaches it.
type host struct {
	*hosttest.Host
	t      testing.TB
	client *http.Client
	driver *Driver
}

// startHost runs the driver of host number n until the test ends or Stop is called.
func startHost(t testing.TB, store kvstore.Store, n int) *host {
	t.Helper()
	return startNode(t, store, n, network.LocalScope, false)
}

// startNode is startHost with a scope, and where mirrored says so with a mirror
// announced.
func startNode(t testing.TB, store kvstore.Store, n int, scope string, mirrored bool) *host {
	t.Helper()
	return startWith(t, store, n, func(c *Config) { c.Scope = scope }, func(o *hosttest.Options) { o.Host.Mirror = mirrored })
}

// startWith is startHost with what change makes of the driver's configuration, and
// others of the host's.
func startWith(t testing.TB, store kvstore.Store, n int, change func(*Config), others ...func(*hosttest.Options)) *host {
	t.Helper()
	h := &host{Host: hosttest.Start(t, store, n, others...), t: t}
	config := Config{
		Host:       h.Host.Host,
		Store:      store,
		VTEPNet:    netip.MustParsePrefix("10.99.0.0/24"),
		Scope:      network.LocalScope,
		Reconciler: h.Loop,
		Membership: h.Member,
		Log:        h.Entry,
	}
	config.Early = &records.EarlyReleases{}
	change(&config)
	d := New(config)
	h.driver = d
	server := plugin.NewServer(d.Log, "NetworkDriver", "IpamDriver")
	d.Register(server)
	ipam.New(ipam.Config{Host: h.Name, Store: store, VTEPNet: config.VTEPNet, Early: config.Early}).Register(server)
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
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	stop := h.Stop
	h.Stop = sync.OnceFunc(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
		stop()
	})
	t.Cleanup(h.Stop)
	return h
}

// call sends one request and returns the answer or Docker's error. A method without
// its driver is the NetworkDriver's.
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
	if !strings.Contains(method, ".") {
		method = "NetworkDriver." + method
	}
	response, err := h.client.Post("http://plugin/"+method, "", bytes.NewReader(body))
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
		h.t.Fatalf("%s: %s: %v", h.Name, method, err)
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

var eventually = hosttest.Eventually

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
