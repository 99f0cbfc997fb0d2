package scale

import (
	"cmp"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/test/bench/report"
)

// control are the sections that tell how the control path grows with the cluster.
type control struct{ start, idle, change *section }

func newControl(s size) control {
	of := func(id, title, intro string) *section {
		return &section{report.Section{ID: id, Title: title, Intro: intro, Growth: true}}
	}
	return control{
		of("control-start", "The cluster starts", fmt.Sprintf(
			"Agents in one process, each a host's real membership, loop, collector, driver, IPAM and mirror with a client of its own of one "+
				"etcd in another process; its data plane notes what it is given, and its mirror finds no engine. %d networks; each host has "+
				"%d endpoints on %d of them, and a network has at most ten hosts.", s.networks, s.endpoints, s.on)),
		of("control-idle", "The cluster is idle", "The same agents, after their start."),
		of("control-change", "Endpoints come and go", fmt.Sprintf(
			"%d changes a second in the whole cluster, by the calls that Docker makes. Agents, etcd and harness share this machine's processors.", *churn)),
	}
}

// TestControl measures what agents, store and changes cost at each size.
func TestControl(t *testing.T) {
	small := size{endpoints: sized(*endpoints, 20), networks: sized(*networks, 20), on: sized(*on, 5)}
	c := newControl(small)
	for text := range strings.SplitSeq(cmp.Or(*hosts, "3"), ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		s := small
		s.hosts, s.agents = n, min(n, *agents)
		row := report.Row{Name: fmt.Sprint(n, " hosts"), Size: float64(n)}
		for _, part := range []*section{c.start, c.idle, c.change} {
			part.Rows = append(part.Rows, row)
		}
		began := time.Now()
		c.measure(t, s, row.Name)
		t.Logf("%d hosts (%d run) took %v", n, s.agents, time.Since(began).Round(time.Second))
		keep(t, c.start, c.idle, c.change)
	}
}

func (c control) measure(t *testing.T, s size, row string) {
	ctx, dir := t.Context(), t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	etcd, err := startEtcd(ctx, dir)
	check(err)
	defer etcd.end(t)
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{etcd.url}})
	check(err)
	defer store.Close()
	check(fill(ctx, store, s))

	runtime.GC()
	empty, _ := rss()
	began, own, arrived := time.Now(), ownCPU(), newArrivals()
	running := make([]*agent, s.agents)
	defer func() { check(stopAll(running)) }()
	profiled(t, fmt.Sprint("start-", s.hosts), func() {
		for n := range running {
			running[n], err = startAgent(etcd.url, dir, n, arrived)
			check(err)
		}
		for _, a := range running {
			eventually(t, a.Name+" has its networks", func() bool { return a.plane.has(s.on) })
		}
	})
	c.start.add(row, "start-all", "all agents start at once", "s", time.Since(began).Seconds())
	c.start.add(row, "start-cpu", "CPU of that, for each agent", "s", (ownCPU()-own).Seconds()/float64(s.agents))
	wait(ctx, *period/4) // what a start does in the background
	runtime.GC()
	full, _ := rss()
	c.start.add(row, "agent-memory", "memory of an agent among many", "MiB", (full-empty)/float64(s.agents))
	idle := c.measureIdle(t, etcd, s, row)
	c.measureChange(t, etcd, s, row, running, arrived, idle)
	cold(t, c.start, row, s, etcd, running, dir)
}

func (c control) measureIdle(t *testing.T, etcd *server, s size, row string) phased {
	idle := phase(t, etcd, fmt.Sprint("idle-", s.hosts), func() { wait(t.Context(), *period) })
	c.idle.add(row, "control-idle-requests", "etcd requests of an agent in a minute", "requests", idle.requests/float64(s.agents)/period.Minutes())
	c.idle.add(row, "control-idle-bytes", "etcd bytes of an agent in a minute", "bytes", (idle.sent+idle.received)/float64(s.agents)/period.Minutes())
	c.idle.add(row, "control-idle-cpu", "CPU of an agent", "% of a core", 100*idle.own/float64(s.agents)/period.Seconds())
	c.idle.add(row, "control-idle-etcd", "CPU of etcd", "% of a core", 100*idle.cpu/period.Seconds())
	return idle
}

func (c control) measureChange(t *testing.T, etcd *server, s size, row string, running []*agent, arrived *arrivals, idle phased) {
	var attached []time.Duration
	busy := phase(t, etcd, fmt.Sprint("change-", s.hosts), func() { attached = change(t, s, running, arrived) })
	convergence, missing := arrived.take()
	add := func(id, title, unit string, value float64) { c.change.add(row, id, title, unit, value) }
	add("attach-p50", "attach (address, CreateEndpoint, Join), p50", "ms", milliseconds(attached, 0.5))
	add("attach-p99", "attach, p99", "ms", milliseconds(attached, 0.99))
	add("convergence-p50", "from CreateEndpoint's call until another agent has it, p50", "ms", milliseconds(convergence, 0.5))
	add("convergence-p99", "the same, p99", "ms", milliseconds(convergence, 0.99))
	add("arrivals", "arrivals", "endpoints", float64(len(convergence)))
	add("arrivals-missing", "arrivals that never came", "endpoints", float64(missing))
	changes := float64(max(1, 2*len(attached)))
	rest := busy.seconds / idle.seconds // of what the agents do anyway
	add("change-requests", "etcd requests of a change", "requests", (busy.requests-idle.requests*rest)/changes)
	add("change-bytes", "etcd bytes of a change, all agents", "bytes", (busy.sent+busy.received-(idle.sent+idle.received)*rest)/changes)
	add("change-cpu-agents", "CPU of all agents for a change", "ms", 1000*(busy.own-idle.own*rest)/changes)
	add("change-cpu-etcd", "CPU of etcd for a change", "ms", 1000*(busy.cpu-idle.cpu*rest)/changes)
	add("harness-cpu", "of the agents' CPU, the harness's own calls", "ms", harness(t))
}

func stopAll(running []*agent) error {
	group := errgroup.Group{}
	for _, a := range running {
		if a != nil {
			group.Go(a.stop)
		}
	}
	return group.Wait()
}
