package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/causeway-net/causeway/internal/faults"
	"github.com/causeway-net/causeway/lab"
)

// step is a pass of a fault point.
type step struct {
	at   string
	pass int
}

// killedAtEachStep kills a service of h2, causeway or the engine, at each step that the life
// of a network and its containers takes there, with the addresses of either allocator. Which
// steps these are is read from a life without a fault. A supervisor starts it again at once.
func (b *faultBed) killedAtEachStep(name string, service func(int) lab.Service) fault {
	did := 0
	return fault{name: name, hosts: []int{2}, lasts: time.Second, long: true, did: &did, heal: (*faultBed).endLives,
		inject: func(b *faultBed) error {
			victim := service(2)
			for _, ipam := range []string{"default", "causeway"} {
				if err := b.revive(victim); err != nil {
					return err
				}
				steps, err := b.stepsOfALife(ipam)
				if err != nil {
					return err
				}
				for _, at := range steps {
					if strings.HasPrefix(at.at, "background") && victim != b.host(2).Causeway {
						continue // causeway's own steps: an engine dies in its calls
					}
					died, err := b.dieAt(at, ipam, victim)
					if err != nil {
						return fmt.Errorf("killed at %v: %w", at, err)
					}
					if died {
						did++
					} else {
						b.Logf("%v was not passed again", at)
					}
				}
			}
			return nil
		}}
}

// stepsOfALife are the passes of the points that a life without a fault goes through.
func (b *faultBed) stepsOfALife(ipam string) ([]step, error) {
	if err := b.arm(step{}, 0); err != nil {
		return nil, err
	}
	if err := b.life(ipam); err != nil {
		return nil, err
	}
	response, err := b.points(http.MethodGet, "")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var passes map[string]int
	if err := json.NewDecoder(response.Body).Decode(&passes); err != nil {
		return nil, err
	}
	var steps []step
	for _, at := range slices.Sorted(maps.Keys(passes)) {
		times := passes[at]
		if strings.HasPrefix(at, "background") {
			times = 1 // others' changes are among them
		}
		for pass := 1; pass <= times; pass++ {
			steps = append(steps, step{at, pass})
		}
	}
	b.Logf("%s: %d steps: %v", ipam, len(steps), passes)
	if len(steps) < 10 {
		return nil, fmt.Errorf("a life has %d steps only", len(steps))
	}
	return steps, nil
}

// life makes a network on h2, starts and removes a container there, and removes it. Each
// has a network of its own: what a death leaves may keep one until it is collected.
func (b *faultBed) life(ipam string) error {
	h := b.host(2)
	b.lives++
	network, subnet := b.lifeNetwork(), fmt.Sprintf("192.168.%d.0/24", 100+b.lives)
	for _, line := range []string{
		"network create -d causeway --subnet=" + subnet + " --ipam-driver=" + ipam + " " + network,
		"run -d --name " + network + " --net=" + network + " busybox sleep 3600",
		"rm -f " + network,
		"network rm " + network,
	} {
		if _, err := h.try(append([]string{"docker"}, strings.Fields(line)...)...); err != nil {
			return err
		}
	}
	return nil
}

func (b *faultBed) lifeNetwork() string { return fmt.Sprint("life", b.lives) }

// dieAt goes through a life in which the victim is killed at a step.
func (b *faultBed) dieAt(at step, ipam string, victim lab.Service) (died bool, err error) {
	if err := b.revive(victim); err != nil {
		return false, err
	}
	before := victim.PID()
	if err := b.arm(at, before); err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(b.Context())
	supervised := make(chan error, 1)
	go func() { supervised <- b.supervise(ctx, victim) }()
	lived := b.life(ipam)
	cancel()
	if err := <-supervised; err != nil {
		return false, err
	}
	b.host(2).remove(b.lifeNetwork())
	if died = victim.PID() != before; died {
		return true, nil // an error of the life is Docker's to tell
	}
	return false, lived
}

// endLives removes, as a user would, what the deaths have left: networks that could not
// be removed at once.
func (b *faultBed) endLives() error {
	var out string
	for end := time.Now().Add(collected); time.Now().Before(end); b.wait(b.Context(), time.Second) {
		left, err := b.host(1).try("causeway", "networks")
		if out = left; err == nil && !strings.Contains(left, " life") {
			return nil
		}
		for n := 1; n <= bedHosts; n++ {
			names, err := b.host(n).try("docker", "network", "ls", "--filter", "name=^life", "--format", "{{.Name}}")
			if err != nil || names == "" {
				continue
			}
			_, _ = b.host(n).try(append([]string{"docker", "network", "rm"}, strings.Fields(names)...)...)
		}
	}
	return fmt.Errorf("networks cannot be removed:\n%s", out)
}

// revive starts a service that died when the last life was over.
func (b *faultBed) revive(service lab.Service) error {
	if service.PID() != 0 {
		return nil
	}
	return service.Start(b.Context())
}

// supervise starts a service again when it has died, as systemd does.
func (b *faultBed) supervise(ctx context.Context, service lab.Service) error {
	for {
		if err := b.revive(service); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		b.wait(ctx, 20*time.Millisecond)
	}
}

// arm has the causeway of h2 kill a process at a step; the zero step disarms it and counts anew.
func (b *faultBed) arm(at step, pid int) error {
	query := url.Values{"at": {at.at}, "pass": {fmt.Sprint(at.pass)}, "kill": {fmt.Sprint(pid)}}
	if at.at == "" {
		query = nil
	}
	response, err := b.points(http.MethodPost, "?"+query.Encode())
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// points asks the fault points of h2's causeway; it may be starting.
func (b *faultBed) points(method, query string) (*http.Response, error) {
	client := b.host(2).agent()
	for end := time.Now().Add(10 * time.Second); ; b.wait(b.Context(), 50*time.Millisecond) {
		if err := b.revive(b.host(2).Causeway); err != nil { // a step that others pass, too: it died when the life was over
			return nil, err
		}
		request, err := http.NewRequestWithContext(b.Context(), method, "http://agent"+faults.Path+query, nil)
		if err != nil {
			return nil, err
		}
		response, err := client.Do(request)
		if err == nil && response.StatusCode != http.StatusOK {
			err = errors.Join(fmt.Errorf("fault points: %s", response.Status), response.Body.Close())
		}
		starting := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
		if !starting || time.Now().After(end) {
			return response, err
		}
	}
}

// agent is a client of the agent's socket.
func (h *host) agent() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", h.Path("/run/causeway/agent.sock"))
		},
	}}
}
