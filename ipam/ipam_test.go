package ipam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

func TestMain(m *testing.M) { storetest.Main(m) }

func newIPAM(t testing.TB, store kvstore.Store, host string) *IPAM {
	t.Helper()
	return New(Config{Host: host, Store: store, VTEPNet: netip.MustParsePrefix("10.128.0.0/24")})
}

// release gives an address back as an engine does, leave a pool.
func (i *IPAM) release(ctx context.Context, pool, address string) error {
	return i.releaseAddress(ctx, &ipam.ReleaseAddressRequest{PoolID: pool, Address: address})
}

func (i *IPAM) leave(ctx context.Context, pool string) error {
	return i.releasePool(ctx, &ipam.ReleasePoolRequest{PoolID: pool})
}

// pool requests a pool and returns its ID and CIDR.
func (i *IPAM) pool(t testing.TB, r ipam.RequestPoolRequest) (string, string) {
	t.Helper()
	if r.AddressSpace == "" {
		r.AddressSpace = localSpace
	}
	answer, err := i.handleRequestPool(t.Context(), &r)
	if err != nil {
		t.Fatal(err)
	}
	return answer.PoolID, answer.Pool
}

func (i *IPAM) ask(ctx context.Context, pool, address string, options ...string) (string, error) {
	r := &ipam.RequestAddressRequest{PoolID: pool, Address: address, Options: map[string]string{
		"com.docker.network.endpoint.macaddress": "02:42:ac:11:00:02", // ignored
	}}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		r.Options[key] = value
	}
	answer, err := i.handleRequestAddress(ctx, r)
	if err != nil {
		return "", err
	}
	return answer.Address, nil
}

func (i *IPAM) must(t testing.TB, pool, address string, options ...string) string {
	t.Helper()
	given, err := i.ask(t.Context(), pool, address, options...)
	if err != nil {
		t.Fatal(err)
	}
	return given
}

const asGateway = labelType + "=" + labelGateway

func TestEightHostsShareOneSubnet(t *testing.T) {
	store := storetest.New(t)
	var wait sync.WaitGroup
	var mu sync.Mutex
	holders := map[string]string{}
	for n := range 8 {
		host := fmt.Sprint("h", n)
		i := newIPAM(t, store, host)
		wait.Go(func() {
			answer, err := i.handleRequestPool(t.Context(), &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: "192.168.1.0/24"})
			if err != nil {
				t.Error(err)
				return
			}
			for {
				given, err := i.ask(t.Context(), answer.PoolID, "")
				if err != nil {
					if want := "pool 192.168.1.0/24 is full: all of its 254 addresses are in use"; err.Error() != want {
						t.Errorf("got %v, want %s", err, want)
					}
					return
				}
				mu.Lock()
				if other, twice := holders[given]; twice {
					t.Errorf("%s was given to %s and %s", given, other, host)
				}
				holders[given] = host
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	if len(holders) != 254 {
		t.Errorf("%d addresses were given out, want 254", len(holders))
	}
}

func TestFreedAddressesAreQuarantined(t *testing.T) {
	i := newIPAM(t, storetest.New(t), "h1")
	pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/29"})
	release := func(addr string) {
		t.Helper()
		for range 2 { // it is idempotent
			if err := i.release(t.Context(), pool, addr); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, want := range []string{"10.1.0.1/29", "10.1.0.2/29", "10.1.0.3/29"} {
		if got := i.must(t, pool, ""); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	release("10.1.0.2")
	release("10.1.0.1")
	for _, want := range []string{"10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29", "10.1.0.2/29", "10.1.0.1/29"} {
		if got := i.must(t, pool, ""); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWhereAddressesComeFrom(t *testing.T) {
	store := storetest.New(t)
	i := newIPAM(t, store, "h1")
	ranged, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24", SubPool: "10.1.0.128/30"})
	for _, want := range []string{"10.1.0.128/24", "10.1.0.129/24", "10.1.0.130/24", "10.1.0.131/24"} {
		if got := i.must(t, ranged, ""); got != want {
			t.Errorf("from the range: %s, want %s", got, want)
		}
	}
	if _, err := i.ask(t.Context(), ranged, ""); err == nil || err.Error() != "range 10.1.0.128/30 of pool 10.1.0.0/24 is full: all of its 4 addresses are in use" {
		t.Errorf("got %v", err)
	}
	if got := i.must(t, ranged, "", asGateway); got != "10.1.0.1/24" {
		t.Errorf("gateway %s", got)
	}
	six, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "fd00::/64", V6: true})
	if got := i.must(t, six, ""); got != "fd00::1/64" {
		t.Errorf("first of fd00::/64 is %s", got)
	}
	// Docker's own allocator shares this one, from below.
	shared, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.2.0.0/24"})
	key := records.PoolKey("default-10.2.0.0-24")
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key,
		records.Pool{Space: "default", Prefix: netip.MustParsePrefix("10.2.0.0/24"), DockerIPAM: true})}}); err != nil {
		t.Fatal(err)
	}
	if got := i.must(t, shared, ""); got != "10.2.0.254/24" {
		t.Errorf("from the top: %s", got)
	}
}

func TestPoolsThatArePicked(t *testing.T) {
	i := newIPAM(t, storetest.New(t), "h1")
	seen := map[string]bool{}
	for _, test := range []struct {
		request ipam.RequestPoolRequest
		want    string
	}{
		{ipam.RequestPoolRequest{}, "10.128.1.0/24"}, // 10.128.0.0/24 is the VTEP's
		{ipam.RequestPoolRequest{}, "10.128.2.0/24"},
		{ipam.RequestPoolRequest{Pool: "0.0.0.0/20"}, "10.128.16.0/20"},
		{ipam.RequestPoolRequest{}, "10.128.3.0/24"},
		{ipam.RequestPoolRequest{V6: true}, "fd8c:3a5e:71c4::/64"},
		{ipam.RequestPoolRequest{V6: true}, "fd8c:3a5e:71c4:1::/64"},
	} {
		id, got := i.pool(t, test.request)
		if got != test.want || seen[id] {
			t.Errorf("%+v gives %s, want %s", test.request, got, test.want)
		}
		seen[id] = true
	}
}

func TestRepeatedAndSharedRequests(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := newIPAM(t, store, "h1"), newIPAM(t, store, "h2")
	one, _ := h1.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
	for _, i := range []*IPAM{h1, h2, h1} {
		if again, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"}); again != one {
			t.Errorf("asked again: %s, first %s", again, one)
		}
		if got := i.must(t, one, "10.1.0.1", asGateway); got != "10.1.0.1/24" {
			t.Errorf("gateway %s", got)
		}
		if got := i.must(t, one, "", asGateway); got != "10.1.0.1/24" {
			t.Errorf("gateway %s", got)
		}
	}
	// Swarm: the leader claims for whichever node runs the task.
	leader, _ := h1.pool(t, ipam.RequestPoolRequest{
		AddressSpace: globalSpace, Pool: "10.1.0.0/24", Options: map[string]string{"com.docker.network.ipam.serial": "true", "RequestAddressType": "com.docker.network.gateway"},
	})
	task, err := netip.ParsePrefix(h1.must(t, leader, ""))
	if err != nil {
		t.Fatal(err)
	}
	h1.must(t, leader, task.Addr().String()) // leader's restart
	h2.must(t, one, task.Addr().String())
	if _, err := h1.ask(t.Context(), one, task.Addr().String()); err == nil {
		t.Error("the task's address was given to a second node")
	}
	// What an engine without a swarm claims in the global space, it frees there.
	h1.must(t, leader, "10.1.0.50")
	h1.must(t, one, "10.1.0.50") // as CreateEndpoint does
	if err := h1.release(t.Context(), leader, "10.1.0.50"); err != nil {
		t.Fatal(err)
	}
	h2.must(t, one, "10.1.0.50")

	if err := h1.release(t.Context(), "default-10.9.0.0-24", "10.9.0.9"); err != nil {
		t.Errorf("release in a pool that is gone: %v", err)
	}
}

// TestPoolGoesWithItsLastUse has pools of networks that are not causeway's.
func TestPoolGoesWithItsLastUse(t *testing.T) {
	type use struct {
		host    int
		global  bool
		release bool
	}
	for name, uses := range map[string][]use{ // the last one takes the pool away
		"two hosts":                 {{host: 0}, {host: 1}, {host: 0, release: true}, {host: 0, release: true}, {host: 1, release: true}},
		"two networks of one host":  {{host: 0}, {host: 0}, {host: 0, release: true}, {host: 0, release: true}},
		"swarm's leader and a node": {{host: 0, global: true}, {host: 0}, {host: 0, release: true}, {host: 0, release: true}, {host: 0, global: true, release: true}},
		"the leader before the node": {{host: 0, global: true}, {host: 0}, {host: 0, global: true, release: true},
			{host: 0, global: true, release: true}, {host: 0, release: true}},
		"swarm repeats itself": {{host: 0, global: true}, {host: 0, global: true}, {host: 1}, {host: 1}, {host: 1, release: true},
			{host: 0, global: true, release: true}},
	} {
		t.Run(name, func(t *testing.T) {
			store := storetest.New(t)
			hosts := []*IPAM{newIPAM(t, store, "h0"), newIPAM(t, store, "h1")}
			for n, use := range uses {
				space, pool := localSpace, "default-10.1.0.0-24"
				if use.global {
					space, pool = globalSpace, "global:default-10.1.0.0-24"
				}
				if !use.release {
					hosts[use.host].pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24", AddressSpace: space})
					hosts[use.host].must(t, pool, "10.1.0.1", asGateway)
				} else if err := hosts[use.host].leave(t.Context(), pool); err != nil {
					t.Fatal(err)
				}
				left, err := store.List(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				if gone := len(left.Items) == 0; gone != (n == len(uses)-1) {
					t.Errorf("after step %d there are %d records", n, len(left.Items))
				}
			}
		})
	}
}

func TestAddressesOnTheWireAreSkipped(t *testing.T) {
	store := storetest.New(t)
	i := newIPAM(t, store, "h1")
	pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/29"})
	onWire := map[string]bool{"10.1.0.2": true, "10.1.0.4": true}
	i.claimer.Probe = func(_ context.Context, _ fabric.Network, addr netip.Addr) (fabric.MAC, bool, error) {
		return fabric.MAC{2, 0, 0, 0, 0, 9}, onWire[addr.String()], nil
	}
	id := parsed(t, pool).key
	_, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.PoolKey(id), records.Pool{Space: "default", Prefix: netip.MustParsePrefix("10.1.0.0/29"), Network: "net1"}),
		kvstore.Put(records.NetworkKey("net1"), fabric.Network{ID: "net1", Mode: fabric.ModeUnderlay}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.1.0.1/29", "10.1.0.3/29", "10.1.0.5/29", "10.1.0.6/29"} {
		if got := i.must(t, pool, ""); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if _, err := i.ask(t.Context(), pool, "10.1.0.2"); err == nil || err.Error() != "address 10.1.0.2 on network net1 is in use on the wire by the machine 02:00:00:00:00:09: start the container with another --ip" {
		t.Errorf("got %v", err)
	}
	if _, err := i.ask(t.Context(), pool, ""); err == nil {
		t.Error("an address of the wire was given out")
	}
	onWire = nil // the machines left
	if got := i.must(t, pool, ""); got != "10.1.0.4/29" {
		t.Errorf("got %s", got)
	}
}

func TestReleaseSparesWhatAnEndpointHas(t *testing.T) {
	store := storetest.New(t)
	i := newIPAM(t, store, "h1")
	pool, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
	i.must(t, pool, "10.1.0.9")
	id := parsed(t, pool).key
	address := records.AddressKey(id, netip.MustParseAddr("10.1.0.9"))
	_, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{
		kvstore.Put(records.PoolKey(id), records.Pool{Space: "default", Prefix: netip.MustParsePrefix("10.1.0.0/24"), Network: "net1"}),
		kvstore.Put(records.EndpointKey("net1", "e1"), fabric.Endpoint{ID: "e1"}),
		kvstore.Put(address, records.Address{Kind: records.KindEndpoint, Host: "h1", Endpoint: "e1"}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	kind := func() records.AddressKind {
		t.Helper()
		if err := i.release(t.Context(), pool, "10.1.0.9"); err != nil {
			t.Fatal(err)
		}
		item, err := store.Get(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		record, err := kvstore.Decode[records.Address](item)
		if err != nil {
			t.Fatal(err)
		}
		return record.Kind
	}
	if got := kind(); got != records.KindEndpoint {
		t.Errorf("released under its endpoint: %s", got)
	}
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(records.EndpointKey("net1", "e1"))}}); err != nil {
		t.Fatal(err)
	}
	if got := kind(); got != records.KindFree {
		t.Errorf("after DeleteEndpoint it is %s", got)
	}
}

func parsed(t *testing.T, text string) poolID {
	t.Helper()
	id, err := parsePoolID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestBadInput goes over the plugin's socket, as Docker does.
func TestBadInput(t *testing.T) {
	i := newIPAM(t, storetest.New(t), "h1")
	one, _ := i.pool(t, ipam.RequestPoolRequest{Pool: "10.1.0.0/24"})
	i.must(t, one, "10.1.0.1", asGateway)
	client := serve(t, i)
	pool := func(cidr string, more ...string) *ipam.RequestPoolRequest {
		r := &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: cidr, Options: map[string]string{}}
		for _, option := range more {
			key, value, _ := strings.Cut(option, "=")
			r.Options[key] = value
		}
		return r
	}
	address := func(pool, addr string) *ipam.RequestAddressRequest {
		return &ipam.RequestAddressRequest{PoolID: pool, Address: addr}
	}
	for name, test := range map[string]struct {
		method  string
		request any
		want    string
	}{
		"overlap":         {"RequestPool", pool("10.1.0.128/25"), "subnet 10.1.0.128/25 overlaps 10.1.0.0/24 of a network on [h1]: take another, or put it in an address space of its own with --ipam-opt space=NAME"},
		"bad CIDR":        {"RequestPool", pool("10.1.0.0/33"), `subnet "10.1.0.0/33" is not a CIDR`},
		"IPv4 as IPv6":    {"RequestPool", pool("::ffff:10.0.0.0/120"), "subnet ::ffff:10.0.0.0/120 is IPv4 written as IPv6: write it as IPv4"},
		"host bits":       {"RequestPool", pool("10.3.0.7/24"), "subnet 10.3.0.7/24 has bits behind its length: write 10.3.0.0/24"},
		"everything":      {"RequestPool", pool("0.0.0.0/0"), "subnet 0.0.0.0/0 holds every address"},
		"unknown option":  {"RequestPool", pool("10.3.0.0/24", "colour=red"), `IPAM option "colour" is not known; known is space`},
		"bad space":       {"RequestPool", pool("10.3.0.0/24", "space=a/b"), `IPAM option space="a/b" must be a word of small letters, digits, dots and underscores`},
		"foreign space":   {"RequestPool", &ipam.RequestPoolRequest{AddressSpace: "LocalDefault"}, `address space "LocalDefault" is not causeway's: it has causeway.local and causeway.global`},
		"range elsewhere": {"RequestPool", &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: "10.3.0.0/24", SubPool: "10.4.0.0/25"}, "range 10.4.0.0/25 is not inside the subnet 10.3.0.0/24"},
		"v4 for v6":       {"RequestPool", &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: "10.3.0.0/24", V6: true}, "subnet 10.3.0.0/24 is asked for as IPv6 and is not"},
		"out of pool":     {"RequestAddress", address(one, "10.2.0.1"), "address 10.2.0.1 is not in pool 10.1.0.0/24"},
		"broadcast":       {"RequestAddress", address(one, "10.1.0.255"), "address 10.1.0.255 of pool 10.1.0.0/24 is the network's own and no station's"},
		"the gateway's":   {"RequestAddress", address(one, "10.1.0.1"), "address 10.1.0.1 of pool 10.1.0.0/24 is in use as the gateway: start the container with another --ip; an --aux-address is given on one host, and holds on all"},
		"no address":      {"RequestAddress", address(one, "ten"), `"ten" is not an address`},
		"no such pool":    {"RequestAddress", address("default-10.9.0.0-24", ""), "pool default-10.9.0.0-24 is not in the cluster: remove the network and create it again"},
		"not our pool":    {"RequestAddress", address("x/y", ""), `pool "x/y" is not one of causeway's`},
	} {
		t.Run(name, func(t *testing.T) {
			body, err := json.Marshal(test.request)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Post("http://plugin/IpamDriver."+test.method, "", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			var answer struct{ Err string }
			if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if answer.Err != test.want {
				t.Errorf("got  %s\nwant %s", answer.Err, test.want)
			}
		})
	}
}

func serve(t testing.TB, i *IPAM) *http.Client {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(t.Output())
	server := plugin.NewServer(logrus.NewEntry(logger), "IpamDriver")
	i.Register(server)
	path := filepath.Join(t.TempDir(), "causeway.sock")
	listener, err := plugin.Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}
}

func TestStoreAway(t *testing.T) {
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{"http://127.0.0.1:9"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	i := newIPAM(t, store, "h1")
	if _, err := i.ask(t.Context(), "default-10.1.0.0-24", ""); !errors.Is(err, kvstore.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkRequestAddress(b *testing.B) {
	store, err := kvstore.StartEmbedded(b.Context(), kvstore.EmbeddedConfig{DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	i := newIPAM(b, store, "h1")
	pool, _ := i.pool(b, ipam.RequestPoolRequest{Pool: "10.0.0.0/16"})
	for range 1000 {
		i.must(b, pool, "")
	}
	for b.Loop() {
		addr, _, _ := strings.Cut(i.must(b, pool, ""), "/")
		if err := i.release(b.Context(), pool, addr); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzRequestPool(f *testing.F) {
	f.Add("10.1.0.0/24", "10.1.0.0/25", "space", "b", false)
	f.Add("fd00::/64", "", "", "", true)
	f.Add("0.0.0.0/24", "", "", "", false)
	f.Fuzz(func(t *testing.T, cidr, within, key, value string, v6 bool) {
		request := &ipam.RequestPoolRequest{AddressSpace: localSpace, Pool: cidr, SubPool: within, V6: v6}
		if key != "" {
			request.Options = map[string]string{key: value}
		}
		answer, err := newIPAM(t, storetest.New(t), "h1").handleRequestPool(t.Context(), request)
		if err != nil {
			return
		}
		id, err := parsePoolID(answer.PoolID)
		if err != nil || id.String() != answer.PoolID {
			t.Errorf("pool ID %q reads back as %+v, %v", answer.PoolID, id, err)
		}
	})
}
