package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// faults are all that are known, each with its own way out. None is a copy of another:
// what happens to a host, a member of the store or the wire is a function of its own.
func (b *faultBed) faults() []fault {
	causeway := func(n int) lab.Service { return b.host(n).Causeway }
	docker := func(n int) lab.Service { return b.host(n).Docker }
	list := []fault{
		{name: "causeway killed", hosts: []int{2}, inject: kills(causeway, 2), heal: starts(causeway, 2)},
		{name: "causeway restarted", hosts: []int{2}, inject: stops(causeway, 2), heal: starts(causeway, 2)},
		{
			name: "causeway hangs", hosts: []int{2}, lasts: 12 * time.Second, told: "not alive", teller: 1,
			inject: signals(2, syscall.SIGSTOP), heal: signals(2, syscall.SIGCONT),
		},
		{name: "engine killed", hosts: []int{3}, inject: kills(docker, 3), heal: starts(docker, 3)},
		{name: "engine restarted", hosts: []int{3}, inject: stops(docker, 3), heal: starts(docker, 3)},
		{
			name: "causeway and engine killed", hosts: []int{3}, inject: both(kills(docker, 3), kills(causeway, 3)),
			heal: both(starts(causeway, 3), starts(docker, 3)),
		},
		{
			name: "the store's leader killed", hosts: []int{1, 2, 3}, inject: (*faultBed).killLeader, heal: starts(causeway, 1, 2, 3),
		},
		{
			name: "two of three members killed", hosts: []int{1, 2, 3}, lasts: 15 * time.Second, told: "store", teller: 3,
			inject: kills(causeway, 1, 2), heal: starts(causeway, 1, 2),
		},
		{
			name: "all members killed for a minute", hosts: []int{1, 2, 3}, lasts: time.Minute, long: true,
			inject: kills(causeway, 1, 2, 3), heal: starts(causeway, 1, 2, 3),
		},
	}
	for _, cut := range []struct {
		name  string
		loses bool
		rules []string
		told  string
	}{
		{"cut off from the peers", true, []string{"input udp dport 4789", "output udp dport 4789"}, ""},
		{"cut off from the store", false, []string{"input meta l4proto tcp", "output meta l4proto tcp"}, "store"},
		{"cut off from all", true, []string{"input", "output"}, "store"},
		{"hears the peers no more", true, []string{"input udp dport 4789"}, ""},
		{"heard by the peers no more", true, []string{"output udp dport 4789"}, ""},
		{"hears nobody any more", true, []string{"input"}, "store"},
		{"heard by nobody any more", true, []string{"output"}, "store"},
	} {
		list = append(list, fault{
			name: cut.name, hosts: []int{2}, loses: cut.loses, lasts: 15 * time.Second, told: cut.told, teller: 2,
			inject: partitions(2, cut.rules...), heal: commands(2, "nft delete table inet fault"),
		})
	}
	list = append(list, b.killedAtEachStep("causeway killed at each step of a call", causeway),
		b.killedAtEachStep("engine killed at each step of a call", docker))
	return slices.Concat(list, b.storeFaults(), b.hostFaults(), b.powerFaults(), b.clockFaults())
}

type act = func(*faultBed) error

func kills(service func(int) lab.Service, hosts ...int) act {
	return together(hosts, func(b *faultBed, n int) error { return service(n).Kill(b.Context()) })
}

func stops(service func(int) lab.Service, hosts ...int) act {
	return together(hosts, func(b *faultBed, n int) error { return service(n).Stop(b.Context()) })
}

// starts starts what does not run. Members of a store wait for each other.
func starts(service func(int) lab.Service, hosts ...int) act {
	return together(hosts, func(b *faultBed, n int) error { return b.revive(service(n)) })
}

// together does it on all hosts at once.
func together(hosts []int, do func(*faultBed, int) error) act {
	return func(b *faultBed) error {
		errs := make(chan error, len(hosts))
		var wait sync.WaitGroup
		for _, n := range hosts {
			wait.Go(func() { errs <- do(b, n) })
		}
		wait.Wait()
		for range hosts {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}
}

func both(first, second act) act {
	return func(b *faultBed) error {
		if err := first(b); err != nil {
			return err
		}
		return second(b)
	}
}

func signals(n int, signal syscall.Signal) act {
	return func(b *faultBed) error { b.signal(n, signal); return nil }
}

func commands(n int, lines ...string) act {
	return func(b *faultBed) error {
		for _, line := range lines {
			if _, err := b.host(n).try("sh", "-c", line); err != nil {
				return err
			}
		}
		return nil
	}
}

// partitions drops what comes in or goes out by the rules, "input udp dport 4789".
func partitions(n int, rules ...string) act {
	lines := []string{"nft add table inet fault"}
	for _, hook := range []string{"input", "output"} {
		lines = append(lines, fmt.Sprintf("nft 'add chain inet fault %s { type filter hook %s priority -350; }'", hook, hook))
	}
	for _, rule := range rules {
		hook, match, _ := strings.Cut(rule, " ")
		device := map[string]string{"input": "iifname", "output": "oifname"}[hook]
		lines = append(lines, fmt.Sprintf("nft add rule inet fault %s %s eth0 %s drop", hook, device, match))
	}
	return commands(n, lines...)
}

// killLeader kills the causeway whose member of the store leads.
func (b *faultBed) killLeader() error {
	leader, err := b.leader()
	if err != nil {
		return err
	}
	return leader.Causeway.Kill(b.Context())
}

// leader is the host whose member of the store leads.
func (b *faultBed) leader() (*host, error) {
	out, err := b.host(1).try("causeway", "hosts", "--json")
	if err != nil {
		return nil, err
	}
	var listed []struct{ Name, Role string }
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		return nil, err
	}
	for i, host := range listed {
		if host.Role == "leads" {
			return b.host(i + 1), nil
		}
	}
	return nil, fmt.Errorf("nobody leads: %s", out)
}
