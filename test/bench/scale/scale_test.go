package scale

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/kvstore"
)

var (
	hosts     = flag.String("hosts", "", "sizes of the cluster, as 10,100")
	agents    = flag.Int("agents", 1000, "how many hosts run at most; the others only have records")
	endpoints = flag.Int("endpoints", 100, "endpoints of each host")
	networks  = flag.Int("networks", 1000, "networks of the cluster")
	on        = flag.Int("on", 50, "networks that each host has")
	churn     = flag.Int("churn", 50, "endpoints that come or go in a second, in the whole cluster")
	period    = flag.Duration("period", 2*time.Second, "how long each part is measured")
)

// TestMain is also the other processes: the etcd, and the agent that starts alone.
func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	switch os.Getenv("CAUSEWAY_BENCH") {
	case "etcd":
		err = serveEtcd(os.Getenv("CAUSEWAY_BENCH_DIR"), os.Getenv("CAUSEWAY_BENCH_ETCD"))
	case "start":
		err = startCold(os.Getenv("CAUSEWAY_BENCH_ETCD"), os.Getenv("CAUSEWAY_BENCH_DIR"))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// figures are what one size costs; each is a column of the table.
type figures struct {
	names  []string
	values []float64
}

func (f *figures) add(name string, value float64) {
	f.names, f.values = append(f.names, name), append(f.values, value)
}

// TestScale prints what agents, store and changes cost at each size, and how that grows.
// Without flags it is a small run that shows that all of it works.
func TestScale(t *testing.T) {
	var sizes []float64
	var all []*figures
	for text := range strings.SplitSeq(cmp.Or(*hosts, "3"), ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		s := size{hosts: n, agents: min(n, *agents), endpoints: *endpoints, networks: *networks, on: *on}
		if *hosts == "" {
			s.networks, s.on = 20, 5
		}
		began := time.Now()
		f := measure(t, s)
		sizes, all = append(sizes, float64(n)), append(all, f)
		t.Logf("%d hosts (%d run), %d endpoints each on %d of %d networks, took %v", n, s.agents, s.endpoints, s.on, s.networks, time.Since(began).Round(time.Second))
		for i, name := range f.names {
			t.Logf("  %-56s %12.3f", name, f.values[i])
		}
	}
	for i := 1; i < len(all); i++ {
		t.Logf("growth from %.0f to %.0f hosts: n to the power of", sizes[i-1], sizes[i])
		for j, name := range all[i].names {
			if before, after := all[i-1].values[j], all[i].values[j]; before > 0 && after > 0 {
				t.Logf("  %-56s %12.2f", name, math.Log(after/before)/math.Log(sizes[i]/sizes[i-1]))
			}
		}
	}
}

func measure(t *testing.T, s size) *figures {
	ctx, f := t.Context(), &figures{}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	etcd, err := startEtcd(ctx, dir)
	check(err)
	defer func() {
		check(etcd.command.Cancel())
		check(etcd.command.Wait())
	}()
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{etcd.url}})
	check(err)
	defer store.Close()
	check(fill(ctx, store, s))

	runtime.GC()
	empty, _ := rss()
	began, own, arrived := time.Now(), ownCPU(), newArrivals()
	running := make([]*agent, s.agents)
	defer func() {
		group := errgroup.Group{}
		for _, a := range running {
			if a != nil {
				group.Go(a.stop)
			}
		}
		check(group.Wait())
	}()
	for n := range running {
		running[n], err = startAgent(etcd.url, dir, n, arrived)
		check(err)
	}
	for _, a := range running {
		eventually(t, a.Name+" has its networks", func() bool { return a.plane.has(s.on) })
	}
	f.add("all agents start at once, s", time.Since(began).Seconds())
	f.add("its CPU, for each agent, s", (ownCPU()-own).Seconds()/float64(s.agents))
	wait(ctx, *period/4) // what a start does in the background
	runtime.GC()
	full, _ := rss()
	f.add("memory of an agent, MiB", (full-empty)/float64(s.agents))

	idle := phase(t, etcd, func() { wait(ctx, *period) })
	f.add("idle: etcd requests of an agent in a minute", idle.requests/float64(s.agents)/period.Minutes())
	f.add("idle: etcd bytes of an agent in a minute", (idle.sent+idle.received)/float64(s.agents)/period.Minutes())
	f.add("idle: CPU of an agent, % of a core", 100*idle.own/float64(s.agents)/period.Seconds())
	f.add("idle: CPU of etcd, % of a core", 100*idle.cpu/period.Seconds())

	var attached []time.Duration
	busy := phase(t, etcd, func() { attached = change(t, s, running, arrived) })
	convergence, missing := arrived.take()
	f.add("attach (address, CreateEndpoint, Join) p50, ms", milliseconds(attached, 0.5))
	f.add("attach p99, ms", milliseconds(attached, 0.99))
	f.add("from CreateEndpoint's call to each other agent, p50, ms", milliseconds(convergence, 0.5))
	f.add("the same, p99, ms", milliseconds(convergence, 0.99))
	f.add("arrivals", float64(len(convergence)))
	f.add("arrivals that never came", float64(missing))
	changes := float64(2 * len(attached))
	f.add("etcd requests of a change", (busy.requests-idle.requests*busy.seconds/idle.seconds)/changes)
	f.add("etcd bytes of a change, to and from all agents", (busy.sent+busy.received-(idle.sent+idle.received)*busy.seconds/idle.seconds)/changes)
	f.add("CPU of all agents for a change, ms", 1000*(busy.own-idle.own*busy.seconds/idle.seconds)/changes)
	f.add("CPU of etcd for a change, ms", 1000*(busy.cpu-idle.cpu*busy.seconds/idle.seconds)/changes)

	cold(t, f, s, etcd, running, dir)
	f.add("the harness alone: CPU for a change, ms", harness(t))
	return f
}

// phased is what a phase has used.
type phased struct {
	counters
	own, seconds float64
}

func phase(t *testing.T, etcd *server, run func()) phased {
	t.Helper()
	before, err := etcd.counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := ownCPU()
	run()
	used := (ownCPU() - own).Seconds()
	after, err := etcd.counters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return phased{after.since(before), used, after.at.Sub(before.at).Seconds()}
}

// change has endpoints come and go for the period, and gives how long each took to come.
func change(t *testing.T, s size, running []*agent, arrived *arrivals) []time.Duration {
	ctx := t.Context()
	took := make(chan time.Duration, 1<<20)
	group, sharing := errgroup.Group{}, s.sharing()
	tick := time.NewTicker(2 * time.Second / time.Duration(*churn)) // each is two changes
	defer tick.Stop()
	for n, end := 0, time.Now().Add(*period); time.Now().Before(end); n++ {
		<-tick.C
		group.Go(func() error {
			host := n * 7919 % len(running)
			mine := s.networksOf(host)
			number := mine[n%len(mine)]
			others := slices.DeleteFunc(slices.Clone(sharing[number]), func(name string) bool { return name == running[host].Name })
			c := container{running[host], number, dockerID(host, number), endpointID(host, 1_000_000+n)}
			came, err := c.live(ctx, arrived, others)
			took <- came
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	close(took)
	var times []time.Duration
	for d := range took {
		times = append(times, d)
	}
	return times
}

// container is one that comes and goes.
type container struct {
	*agent
	number   int // of its network
	network  string
	endpoint string
}

// live is its life, as Docker tells it. It gives how long it took to come.
func (c container) live(ctx context.Context, arrived *arrivals, others []string) (time.Duration, error) {
	began := time.Now()
	given, err := call[ipam.RequestAddressResponse](ctx, c.agent, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: poolID(c.number)})
	if err != nil {
		return 0, err
	}
	arrived.expect(c.endpoint, others)
	if _, err := call[network.CreateEndpointResponse](ctx, c.agent, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: c.network, EndpointID: c.endpoint, Interface: &network.EndpointInterface{Address: given.Address},
	}); err != nil {
		return 0, err
	}
	if _, err := call[network.JoinResponse](ctx, c.agent, "NetworkDriver.Join", network.JoinRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return 0, err
	}
	took := time.Since(began)
	wait(ctx, time.Second)
	if _, err := call[struct{}](ctx, c.agent, "NetworkDriver.Leave", network.LeaveRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return took, err
	}
	if _, err := call[struct{}](ctx, c.agent, "NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return took, err
	}
	address, _, _ := strings.Cut(given.Address, "/")
	_, err = call[struct{}](ctx, c.agent, "IpamDriver.ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: poolID(c.number), Address: address})
	return took, err
}

// cold stops the first agent and starts it again in a process of its own.
func cold(t *testing.T, f *figures, s size, etcd *server, running []*agent, dir string) {
	if err := running[0].stop(); err != nil {
		t.Fatal(err)
	}
	running[0] = nil
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self, "-on="+fmt.Sprint(s.on))
	command.Env = append(os.Environ(), "CAUSEWAY_BENCH=start", "CAUSEWAY_BENCH_DIR="+dir, "CAUSEWAY_BENCH_ETCD="+etcd.url)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var seconds, memory, cpu float64
	if _, err := fmt.Sscan(string(out), &seconds, &memory, &cpu); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	f.add("cold start of one agent, s", seconds)
	f.add("its memory at most, MiB", memory)
	f.add("the CPU of that, s", cpu)
}

// startCold is the process of that agent.
func startCold(etcd, dir string) error {
	began := time.Now()
	a, err := startAgent(etcd, dir, 0, newArrivals())
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !a.plane.has(*on) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(began)
	_, peak := rss()
	fmt.Fprintln(os.Stdout, took.Seconds(), peak, ownCPU().Seconds())
	return a.stop()
}

// harness is what the calls of one change cost without causeway: their JSON and HTTP, to
// a server that answers nothing.
func harness(t *testing.T) float64 {
	a, stop := nobody(t)
	defer stop()
	const calls = 2000
	own := ownCPU()
	for range calls {
		if _, err := call[ipam.RequestAddressResponse](t.Context(), a, "nothing", ipam.RequestAddressRequest{PoolID: poolID(1)}); err != nil {
			t.Fatal(err)
		}
	}
	return 1000 * (ownCPU() - own).Seconds() / calls * 3 // six calls are two changes
}

// wait lets time pass: the periods that are measured, and containers' lives.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func milliseconds(times []time.Duration, quantile float64) float64 {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return float64(times[min(len(times)-1, int(quantile*float64(len(times))))]) / float64(time.Millisecond)
}
