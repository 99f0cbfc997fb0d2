package test

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// fault is one thing that goes wrong, on a lab whose containers talk meanwhile.
type fault struct {
	name string
	// hosts are those that have it: a container that is started there, or that is reached
	// from there, may have to wait for the end of the fault.
	hosts []int
	// loses says that flows of these hosts lose packets while it lasts; cuts that they are
	// cut for good. All other flows lose nothing.
	loses, cuts bool
	// lasts is how long, at least (3 s). long says that it takes minutes, all in all.
	lasts        time.Duration
	long         bool
	inject, heal func(*faultBed) error
	// prepare is what is to be there before the load is; nil: nothing.
	prepare func(*faultBed) error
	// told is what causeway status, or the command, says on the teller while it lasts;
	// empty: nothing.
	told, command string
	teller        int
	// left says what is left of it in the end, beyond what is counted; nil: nothing can be.
	left func(*faultBed) error
	// did counts the injections of inject; nil: it is one.
	did *int
}

func (f fault) concerns(host int) bool { return slices.Contains(f.hosts, host) }

const (
	bedHosts   = 3
	bedNetwork = "steady"
	// healed is how soon all is as it was when a fault is over, and collected how soon
	// nothing is left of what was in its way: Collector's grace, twice, and a resync.
	healed    = 40 * time.Second
	collected = 150 * time.Second
)

// faultBed is the lab with what has to outlive all faults: a container on each host.
type faultBed struct {
	*cluster
	steady map[int]container
	addrs  map[int]string
	mu     sync.Mutex  // guards pids, which the churn reads while a fault changes them
	pids   map[int]int // see pid
	before map[int]inventory
	round  int
	lives  int
	files  string    // a folder
	tracer *exec.Cmd // slows a disk down
}

// TestFaults has one fault after the other while containers of three hosts talk, come and
// go, and holds after each that only what the fault itself cut was lost, that nothing is
// left, and that status told of it and tells no more.
//
// make test-faults has all, in an order that SEED= gives again, FAULTS=short two of them.
func TestFaults(t *testing.T) {
	only := os.Getenv("CAUSEWAY_FAULTS")
	if only == "" {
		t.Skip("an hour of faults: make test-faults has them; TestVXLAN has two")
	}
	c := up(t, lab.Options{Hosts: bedHosts, DockerArgs: []string{"--live-restore"}, CausewayArgs: []string{"--fault-points"}})
	random := faultRandom(t)
	b := newFaultBed(c)
	list := b.faults()
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	switch only {
	case "all":
	case "short":
		list = shortOf(list)
	default:
		list = slices.DeleteFunc(list, func(f fault) bool {
			return !slices.ContainsFunc(strings.Split(only, ","), func(part string) bool { return strings.Contains(f.name, part) })
		})
	}
	b.endureEach(list, random)
}

// twoFaults has two of the faults on a lab of three hosts, other ones at each commit.
func twoFaults(c *cluster) {
	if c.host(1).managed() {
		c.Skip("the faults are those of a process")
	}
	random := faultRandom(c.T)
	b := newFaultBed(c)
	list := b.faults()
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	b.endureEach(shortOf(list), random)
}

// shortOf are the first two that take half a minute at most.
func shortOf(list []fault) []fault {
	return slices.DeleteFunc(list, func(f fault) bool { return f.long })[:2]
}

// endureEach goes through the faults and prints what they did.
func (b *faultBed) endureEach(list []fault, random *rand.Rand) {
	c := b.cluster
	var rows []row
	for _, f := range list {
		c.Run(f.name, func(t *testing.T) {
			b.cluster = c.sub(t)
			rows = append(rows, b.endure(f, random))
		})
	}
	b.cluster = c
	c.Log("\n" + table(rows))
}

// faultRandom is seeded with SEED, or else with the commit, so that each has others.
func faultRandom(t *testing.T) *rand.Rand {
	t.Helper()
	commit, _ := exec.Command("git", "rev-parse", "HEAD").Output()
	h := fnv.New64a()
	_, _ = h.Write(commit)
	seed := h.Sum64()
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func newFaultBed(c *cluster) *faultBed {
	c.Helper()
	b := &faultBed{cluster: c, steady: map[int]container{}, addrs: map[int]string{}, pids: map[int]int{}, before: map[int]inventory{}, files: c.TempDir()}
	c.storeHeldBy("h1", "h2", "h3")
	c.network(bedNetwork, "--subnet=192.168.90.0/24")
	for n := 1; n <= bedHosts; n++ {
		b.steady[n] = c.host(n).run(fmt.Sprint(bedNetwork, n), "--net="+bedNetwork, "--restart=always")
	}
	b.refresh()
	for n := 1; n <= bedHosts; n++ {
		b.steady[n].pings(b.addrs[n%bedHosts+1])
	}
	eventuallyWithin(c.T, collected, "all is quiet", b.quiet)
	for n := 1; n <= bedHosts; n++ {
		b.before[n] = c.host(n).inventory()
	}
	return b
}

// refresh reads where the steady containers are: an engine may have started them again.
func (b *faultBed) refresh() {
	b.Helper()
	for n, one := range b.steady {
		pid := one.pid()
		b.addrs[n] = one.addr(bedNetwork)
		b.mu.Lock()
		b.pids[n] = pid
		b.mu.Unlock()
	}
}

// endure goes through one fault.
func (b *faultBed) endure(f fault, random *rand.Rand) row {
	b.Helper()
	b.round++
	r := row{fault: f.name, injections: 1}
	if f.prepare != nil {
		if err := f.prepare(b); err != nil {
			b.Fatal(err)
		}
	}
	flows := []*flow{b.startFlow(1, 2), b.startFlow(2, 3), b.startFlow(3, 1)}
	churn, stop := b.startChurn(random)
	b.wait(b.Context(), time.Second)
	if err := f.inject(b); err != nil {
		b.Fatal(err)
	}
	if f.did != nil {
		r.injections = *f.did
	}
	for end := time.Now().Add(cmp.Or(f.lasts, 3*time.Second)); time.Now().Before(end) || f.told != "" && r.told == ""; b.wait(b.Context(), time.Second) {
		if f.told != "" && r.told == "" {
			out, _ := b.host(f.teller).try(append([]string{"causeway"}, strings.Fields(cmp.Or(f.command, "status"))...)...)
			r.told = lineWith(out, f.told)
		}
		if time.Since(end) > healed {
			b.Errorf("what is read on h%d does not say %q", f.teller, f.told)
			break
		}
	}
	if err := f.heal(b); err != nil {
		b.Fatal(err)
	}
	over := time.Now()
	b.settle(f)
	r.heal = time.Since(over)
	stop()
	for n := 1; n <= bedHosts; n++ { // whose removal an engine that was away has missed
		if _, err := b.host(n).try("sh", "-c", "docker ps --all --quiet --filter name=^churn | xargs -r docker rm -f"); err != nil {
			b.Error(err)
		}
	}
	b.count(f, flows, churn, &r)
	if f.cuts {
		b.refresh()
	}
	over = time.Now()
	eventuallyWithin(b.T, collected, "nothing is left", func() error {
		if err := b.quiet(); err != nil {
			return err
		}
		if f.left != nil {
			if err := f.left(b); err != nil {
				return err
			}
		}
		return b.same()
	})
	r.collect = time.Since(over)
	b.noAddressTwice()
	return r
}

// count ends the flows, and holds that none lost what was not the fault's.
func (b *faultBed) count(f fault, flows []*flow, churn *churn, r *row) {
	b.Helper()
	for _, one := range flows {
		lost, tcp, err := one.end()
		if err != nil {
			b.Error(err)
		}
		concerned := f.concerns(one.from) || f.concerns(one.to)
		r.lost += lost
		if lost > 0 && (!concerned || !f.loses && !f.cuts) {
			b.Errorf("%d echoes between h%d and h%d were lost", lost, one.from, one.to)
		}
		if tcp != nil {
			r.broken++
			if !concerned || !f.cuts {
				b.Errorf("the connection of h%d to h%d broke: %v", one.from, one.to, tcp)
			}
		}
	}
	churn.mu.Lock()
	defer churn.mu.Unlock()
	r.started, r.unheard, r.unknown = churn.started, len(churn.unheard), churn.unknown
	for why, times := range churn.refused {
		r.refused += times
		b.Logf("%d starts were refused: %s", times, why)
	}
	for _, one := range churn.unheard {
		excused := slices.ContainsFunc(f.hosts, func(n int) bool {
			return strings.Contains(one, fmt.Sprintf(" from h%d:", n)) || strings.Contains(one, fmt.Sprint(" of h", n, " "))
		})
		if !excused {
			b.Errorf("not reached within %d echoes: %s", patience, one)
		}
	}
	if churn.started == 0 {
		b.Error("no container was started")
	}
}

// settle waits until each host starts containers that all others reach, and has no troubles.
func (b *faultBed) settle(f fault) {
	b.Helper()
	for n := 1; n <= bedHosts; n++ {
		name := fmt.Sprintf("after%d-%d", b.round, n)
		b.Cleanup(func() { b.host(n).remove(name) })
		eventuallyWithin(b.T, healed, name+" is started and reached", func() error {
			b.host(n).remove(name)
			if _, err := b.host(n).try("docker", "run", "-d", "--name", name, "--net="+bedNetwork, "busybox", "sleep", "3600"); err != nil {
				return err
			}
			addr, err := b.host(n).try("docker", "inspect", "--format", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", bedNetwork), name)
			for from := 1; from <= bedHosts && err == nil; from++ {
				pid := b.pid(from)
				if f.cuts && f.concerns(from) {
					pid = b.steady[from].pid()
				}
				_, err = b.host(from).try("nsenter", "--target", fmt.Sprint(pid), "--net", "ping", "-c", "1", "-i", "0.1", "-w", "2", addr)
			}
			return err
		})
		b.host(n).remove(name)
	}
	b.storeHeldBy("h1", "h2", "h3")
	for n := 1; n <= bedHosts; n++ {
		eventuallyWithin(b.T, healed, b.host(n).Name()+" has no troubles", func() error { return b.host(n).shows("no troubles", "status") })
	}
}

// quiet says whether the cluster has the steady containers' endpoints alone.
func (b *faultBed) quiet() error {
	out, err := b.host(1).try("causeway", "endpoints", bedNetwork)
	if lines := strings.Count(strings.TrimSpace(out), "\n"); err == nil && lines != bedHosts {
		err = fmt.Errorf("there are %d endpoints:\n%s", lines, out)
	}
	return err
}

// same says whether the hosts have what they had before the first fault.
func (b *faultBed) same() error {
	for n := 1; n <= bedHosts; n++ {
		if diff := b.before[n].diff(b.host(n).inventory()); diff != "" {
			return fmt.Errorf("on h%d: %s", n, diff)
		}
	}
	return nil
}
