package hammer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

var (
	operations = flag.Int("operations", 2000, "starts and stops of containers")
	seed       = flag.Uint64("seed", 0, "the seed of what is drawn; 0: another each time")
)

const (
	hosts, writers = 4, 16
	// lives is how many operations of its store an agent lives at most, and one of
	// deaths operations of the writers is the death of their engine.
	lives, deaths = 3000, 400
	prefix        = "/hammer/"
	ended         = "ended"
)

func TestNoAddressHasTwoOwners(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed=%d", *seed)
	etcd, err := kvstore.StartEmbedded(t.Context(), kvstore.EmbeddedConfig{DataDir: t.TempDir(), Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	store := etcd.Open(prefix, kvstore.Identity{}, nil)
	defer store.Close()
	client := v3client.New(etcd.Embed.Server)
	defer client.Close()
	past := newHistory(prefix)
	replayed := make(chan error, 1)
	go func() { replayed <- past.follow(t.Context(), client, ended) }()

	l := &ledger{owners: map[string]string{}, count: map[string]int{}}
	engines := makeCluster(t, store, l)
	begun := time.Now()
	hammer(t, engines, l)
	took := time.Since(begun)
	checkNothingLeaks(t, store, engines)
	if _, err := store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(ended, true)}}); err != nil {
		t.Fatal(err)
	}
	if err := <-replayed; err != nil {
		t.Error(err)
	}
	for _, fault := range slices.Concat(l.faults, past.faults) {
		t.Error(fault)
	}
	t.Logf("%d operations in %s, %d revisions replayed", *operations, took.Round(time.Second), past.revision)
	for _, what := range slices.Sorted(maps.Keys(l.count)) {
		t.Logf("%6d %s", l.count[what], what)
	}
}

// makeCluster makes two networks on all hosts: one whose addresses are causeway's alone,
// and one that the first two hosts' engines share with their own allocators.
func makeCluster(t *testing.T, store kvstore.Store, l *ledger) []*engine {
	t.Helper()
	subnets := []*subnet{
		{name: "a", prefix: netip.MustParsePrefix("10.1.0.0/26")},
		{name: "b", prefix: netip.MustParsePrefix("10.2.0.0/27")},
	}
	var engines []*engine
	for n := 1; n <= hosts; n++ {
		e := &engine{
			n: n, kernel: hosttest.NewPlane(), ledger: l, store: store, subnets: subnets,
			allocated: map[netip.Addr]bool{}, containers: map[string]*container{}, starting: map[string]*container{},
		}
		if n <= 2 {
			e.own = subnets[1]
		}
		engines = append(engines, e)
		a := startAgent(t, store, n, e.kernel)
		hosttest.Eventually(t, a.Name+" is alive", func() bool { return a.Has(t, records.AliveKey(a.Name)) })
		for _, s := range subnets {
			e.createNetwork(t, a, s)
		}
		a.stop()
	}
	return engines
}

// createNetwork has the engine make the network, or join it where another engine did.
func (e *engine) createNetwork(t *testing.T, a *agent, s *subnet) {
	t.Helper()
	space := "LocalDefault"
	request := &network.CreateNetworkRequest{NetworkID: e.dockerID(s), Options: map[string]any{}}
	generic := map[string]any{}
	if s.id != "" {
		generic["causeway.network"] = "id:" + s.id
	}
	if s != e.own {
		pool := ipam.RequestPoolRequest{AddressSpace: "causeway.local", Pool: s.prefix.String()}
		answer, err := call[ipam.RequestPoolResponse](t.Context(), a, "IpamDriver.RequestPool", &pool)
		if err != nil {
			t.Fatal(err)
		}
		s.pool, space = answer.PoolID, pool.AddressSpace
		gateway := &ipam.RequestAddressRequest{
			PoolID: s.pool, Address: s.prefix.Addr().Next().String(), Options: map[string]string{"RequestAddressType": "com.docker.network.gateway"},
		}
		if _, err := call[ipam.RequestAddressResponse](t.Context(), a, "IpamDriver.RequestAddress", gateway); err != nil {
			t.Fatal(err)
		}
	}
	request.Options["com.docker.network.generic"] = generic
	request.IPv4Data = []*network.IPAMData{{
		AddressSpace: space, Pool: s.prefix.String(), Gateway: netip.PrefixFrom(s.prefix.Addr().Next(), s.prefix.Bits()).String(),
	}}
	if _, err := call[nothing](t.Context(), a, "NetworkDriver.CreateNetwork", request); err != nil {
		t.Fatal(err)
	}
	attachments, err := a.Records.Store.List(t.Context(), records.HostAttachments(a.Name))
	if err != nil {
		t.Fatal(err)
	}
	attachment, err := kvstore.Decode[records.Attachment](attachments.Items[records.AttachmentKey(a.Name, request.NetworkID)])
	if err != nil {
		t.Fatal(err)
	}
	s.id = attachment.Network
}

// hammer has the writers start and stop containers, while agents are killed and engines die.
func hammer(t *testing.T, engines []*engine, l *ledger) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var agents, work sync.WaitGroup
	for _, e := range engines {
		random := rand.New(rand.NewPCG(*seed, uint64(e.n)))
		agents.Go(func() { e.run(ctx, t, random, lives) })
	}
	var done atomic.Int64
	for w := range writers {
		e, random := engines[w%hosts], rand.New(rand.NewPCG(*seed, uint64(1000+w)))
		work.Go(func() {
			for {
				n := done.Add(1)
				if n > int64(*operations) {
					return
				}
				if random.IntN(deaths) == 0 {
					e.die()
					l.did("engines that died")
				}
				e.write(ctx, l, random, fmt.Sprintf("%064d", n))
			}
		})
	}
	work.Wait()
	cancel()
	agents.Wait()
}

// write starts a container, or stops one.
func (e *engine) write(ctx context.Context, l *ledger, random *rand.Rand, id string) {
	const each = 14 // containers of a host: 56 and more of two pools of 90 addresses
	e.mu.Lock()
	many := len(e.containers)
	e.mu.Unlock()
	if random.IntN(2*each) < many {
		if stopped, err := e.stopAny(ctx); stopped {
			l.did(outcome("stops", err))
			return
		}
	}
	e.awaitAgent()
	l.did(outcome("starts", e.start(ctx, e.subnets[random.IntN(len(e.subnets))], id)))
}

func outcome(what string, err error) string {
	switch {
	case err == nil:
		return what
	case errors.Is(err, errDied):
		return what + " of an engine that died"
	case strings.Contains(err.Error(), "is full"):
		return what + " refused: the pool is full"
	case strings.Contains(err.Error(), "in use"):
		return what + " refused: the address is in use"
	case strings.Contains(err.Error(), "the agent was killed"), errors.As(err, new(*url.Error)):
		return what + " cut by a killed agent"
	}
	return what + " refused otherwise"
}

// checkNothingLeaks stops all containers and expects that each address can be had again.
func checkNothingLeaks(t *testing.T, store kvstore.Store, engines []*engine) {
	t.Helper()
	var agents []*agent
	for _, e := range engines {
		e.mortal = newMortal(store, math.MaxInt, false)
		e.agent = startAgent(t, e.mortal, e.n, e.kernel)
		defer e.agent.stop()
		agents = append(agents, e.agent)
	}
	for _, e := range engines {
		for stopped := true; stopped; {
			var err error
			if stopped, err = e.stopAny(t.Context()); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	}
	for _, s := range engines[0].subnets {
		for inTime := false; !inTime; { // else the collectors had some back before all were given
			await.Within(t, 10*grace, "all of "+s.prefix.String()+" is free", func() error { return allFree(t.Context(), store, s) })
			inTime = takeAll(t, agents, s)
		}
	}
}

// allFree says what is left of containers on a network.
func allFree(ctx context.Context, store kvstore.Store, s *subnet) error {
	var keys []string
	for _, prefix := range []string{records.NetworkEndpoints(s.id), records.PoolAddresses(s.pool)} {
		snapshot, err := store.List(ctx, prefix)
		if err != nil {
			return err
		}
		for key, item := range snapshot.Items {
			address, err := kvstore.Decode[records.Address](item)
			if err != nil || address.Kind == records.KindEndpoint || strings.HasPrefix(key, records.EndpointsPrefix) {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) > 0 {
		return fmt.Errorf("%d records are left for nobody: %v", len(keys), keys)
	}
	return nil
}

// takeAll claims all addresses of a network and expects to get each once. It is false
// where that took so long that the collectors may have released the first ones.
func takeAll(t *testing.T, agents []*agent, s *subnet) (inTime bool) {
	t.Helper()
	var faults []string
	given, begun := map[string]bool{}, time.Now()
	for n := 0; ; n++ {
		answer, err := call[ipam.RequestAddressResponse](t.Context(), agents[n%hosts], "IpamDriver.RequestAddress", &ipam.RequestAddressRequest{PoolID: s.pool})
		if err != nil && strings.Contains(err.Error(), "is full") {
			break
		}
		if err != nil || given[answer.Address] {
			faults = append(faults, fmt.Sprintf("the %dth address is %s, %v", n, answer.Address, err))
			break
		}
		given[answer.Address] = true
	}
	if first, last := records.Bounds(s.prefix); len(given) != records.Size(first, last)-1 { // one is the gateway's
		faults = append(faults, fmt.Sprintf("%d addresses can be had, not %d", len(given), records.Size(first, last)-1))
	}
	if time.Since(begun) > grace {
		return false
	}
	for _, fault := range faults {
		t.Errorf("%s: %s", s.prefix, fault)
	}
	return true
}
