package test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// flow is a steady stream between containers of two hosts: a ping every 20 ms, and a TCP
// connection.
type flow struct {
	from, to int // hosts
	ping     *exec.Cmd
	said     bytes.Buffer
	tcp      *session
}

var received = regexp.MustCompile(`(\d+) packets transmitted, (\d+) (?:packets )?received`)

// startFlow begins a flow from the steady container of one host to another's. The engines
// are not in its way.
func (b *faultBed) startFlow(from, to int) *flow {
	b.Helper()
	f := &flow{from: from, to: to}
	f.ping = b.steady[from].Command(b.Context(), "nsenter", "--target", fmt.Sprint(b.pid(from)), "--net",
		"ping", "-i", "0.02", "-W", "1", b.addrs[to])
	f.ping.Stdout, f.ping.Stderr = &f.said, &f.said
	if err := f.ping.Start(); err != nil {
		b.Fatal(err)
	}
	f.tcp = b.session(b.pid(to), b.addrs[to], b.pid(from))
	return f
}

// pid is the steady container's of a host.
func (b *faultBed) pid(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pids[n]
}

// end stops the flow, and says how many echoes were lost and whether the connection held.
func (f *flow) end() (lost int, tcp, err error) {
	if err := f.ping.Process.Signal(os.Interrupt); err != nil {
		return 0, nil, err
	}
	_ = f.ping.Wait() // 1 where echoes were lost
	tcp = f.tcp.close()
	match := received.FindStringSubmatch(f.said.String())
	if match == nil {
		return 0, tcp, fmt.Errorf("ping of h%d to h%d says:\n%s", f.from, f.to, f.said.String())
	}
	sent, _ := strconv.Atoi(match[1])
	back, _ := strconv.Atoi(match[2])
	return max(0, sent-back-1), tcp, nil // the last one may be on its way
}

// churn has containers come and go on all hosts, and looks names up, until the function
// is called that it returns.
type churn struct {
	mu       sync.Mutex
	started  int
	refused  map[string]int
	unheard  []string // containers that were not reached in time, from which host
	unknown  int      // names that were not answered
	answered int
}

// patience is how many echoes of 100 ms each host sends to a container that was started
// until one comes back.
const patience = 20

var answeredEcho = regexp.MustCompile(`icmp_seq=(\d+)`)

func (b *faultBed) startChurn(random *rand.Rand) (c *churn, stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	c = &churn{refused: map[string]int{}}
	var running sync.WaitGroup
	for n := 1; n <= bedHosts; n++ {
		pause := time.Duration(200+random.IntN(200)) * time.Millisecond
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				b.comeAndGo(ctx, c, n, fmt.Sprintf("churn%d-%d-%d", n, b.round, i))
				b.wait(ctx, pause)
			}
		})
	}
	return c, func() { cancel(); running.Wait() }
}

func (b *faultBed) comeAndGo(ctx context.Context, c *churn, n int, name string) {
	h := b.host(n)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 90*time.Second)
	defer cancel()
	_, err := h.Run(limit, "docker", "run", "-d", "--name", name, "--net="+bedNetwork, "busybox", "sleep", "3600")
	if err == nil {
		c.note(func() { c.started++ })
		b.reach(ctx, c, h, name)
		peer := n%bedHosts + 1
		_, unknown := h.Run(limit, "nsenter", "--target", fmt.Sprint(b.pid(n)), "--net", "--mount", "--root",
			"/bin/busybox", "nslookup", fmt.Sprint(bedNetwork, peer))
		c.note(func() {
			if c.answered++; unknown != nil {
				c.answered--
				c.unknown++
			}
		})
	} else if ctx.Err() == nil {
		text := err.Error()
		c.note(func() { c.refused[text[strings.LastIndex(text, ": ")+1:]]++ })
	}
	_, _ = h.Run(limit, "docker", "rm", "-f", name) // an engine that is away forgets it, or has it removed in the end
}

// reach pings a container from the steady one of each host.
func (b *faultBed) reach(ctx context.Context, c *churn, h *host, name string) {
	addr, err := h.Run(ctx, "docker", "inspect", "--format", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", bedNetwork), name)
	if err != nil {
		return // the engine has gone meanwhile
	}
	for n := 1; n <= bedHosts; n++ {
		limit, cancel := context.WithTimeout(ctx, 30*time.Second)
		out, err := b.host(n).Run(limit, "nsenter", "--target", fmt.Sprint(b.pid(n)), "--net",
			"ping", "-c", "1", "-i", "0.1", "-w", "20", strings.TrimSpace(addr))
		cancel()
		// By the echoes and not by the clock: a busy machine takes its time to run a ping.
		asked := math.MaxInt
		if match := answeredEcho.FindStringSubmatch(out); match != nil {
			asked, _ = strconv.Atoi(match[1])
		}
		if asked > patience && ctx.Err() == nil {
			c.note(func() { c.unheard = append(c.unheard, fmt.Sprintf("%s of %s from h%d: %v", name, h.Name(), n, err)) })
		}
	}
}

func (c *churn) note(what func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what()
}
