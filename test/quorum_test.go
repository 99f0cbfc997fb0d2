package test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestQuorum loses hosts that hold the store, the first of all the one that all
// joined through.
func TestQuorum(t *testing.T) {
	c := up(t, lab.Options{Hosts: 4})
	c.network("quorum", "--subnet=192.168.80.0/24")
	voters := c.voters()
	var all []container
	for n := range 4 {
		all = append(all, c.host(n+1).run(fmt.Sprint("quorum", n+1), "--net=quorum"))
	}
	all[3].pings(all[0].addr("quorum"))
	if !t.Run("the first host loses its power", func(t *testing.T) { powerLoss(c.sub(t), all, voters) }) {
		return
	}
	t.Run("members are killed in turn", func(t *testing.T) { membersKilled(c.sub(t), voters) })
	t.Run("all hosts lose their power", func(t *testing.T) { bootStorm(c.sub(t), 5) })
}

// storeHeldBy waits until the store has these voters, one of which leads.
func (c *cluster) storeHeldBy(hosts ...string) {
	c.Helper()
	eventuallyWithin(c.T, time.Minute, fmt.Sprint("the store is held by ", hosts), func() error {
		voters, err := c.askVoters()
		if err == nil && !slices.Equal(voters, hosts) {
			err = fmt.Errorf("they are %v", voters)
		}
		return err
	})
}

// voters waits until three hosts hold the store, those that were the first to join.
func (c *cluster) voters() (hosts []string) {
	c.Helper()
	eventuallyWithin(c.T, time.Minute, "three hosts hold the store", func() (err error) {
		if hosts, err = c.askVoters(); err == nil && len(hosts) != 3 {
			err = fmt.Errorf("they are %v", hosts)
		}
		return err
	})
	return hosts
}

// askVoters gives the voters of a store that has a leader.
func (c *cluster) askVoters() (voters []string, err error) {
	out, err := c.host(2).try("causeway", "hosts", "--json")
	if err != nil {
		return nil, err
	}
	var listed []struct{ Name, Role string }
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		return nil, err
	}
	leaders := 0
	for _, host := range listed {
		if host.Role == "leads" || host.Role == "votes" {
			voters = append(voters, host.Name)
		}
		if host.Role == "leads" {
			leaders++
		}
	}
	if leaders != 1 {
		return nil, fmt.Errorf("%d of %v lead", leaders, voters)
	}
	return voters, nil
}

// powerLoss takes h1 away: containers start on the others, and keep their traffic.
func powerLoss(c *cluster, all []container, voters []string) {
	stop := c.steadyFrom(all[1], all[3].addr("quorum"))
	c.powerOff(1)
	off := time.Now()
	var starting sync.WaitGroup
	for n := 2; n <= 4; n++ {
		starting.Go(func() {
			name := fmt.Sprint("after", n)
			eventually(c.T, name+" is started", func() error {
				_, err := c.host(n).try("docker", "run", "-d", "--name", name, "--net=quorum", "busybox", "sleep", "3600")
				if err != nil {
					c.host(n).remove(name)
				}
				return err
			})
			c.Logf("%s was started on h%d %v after the power loss", name, n, time.Since(off).Round(100*time.Millisecond))
		})
	}
	starting.Wait()
	for n := 2; n <= 4; n++ {
		c.Cleanup(func() { c.host(n).remove(fmt.Sprint("after", n)) })
		after := container{c.host(n), fmt.Sprint("after", n)}
		after.pings(all[2].addr("quorum"))
		after.finds("quorum4", all[3].addr("quorum"))
	}
	stop()
	c.powerOn(1)
	c.storeHeldBy(voters...)
	back := c.host(1).run("back1", "--net=quorum")
	back.pings(all[3].addr("quorum"))
	c.noAddressTwice()
}

// powerOff ends all of a host's daemons at once and cuts it off.
func (c *cluster) powerOff(n int) {
	c.Helper()
	if _, err := c.host(n).try("ip", "link", "set", "eth0", "down"); err != nil {
		c.Fatal(err)
	}
	// An engine that still runs would disable a managed plugin that is killed, and not
	// start it again with itself.
	for _, daemon := range []lab.Service{c.host(n).Docker, c.host(n).Causeway} {
		if err := daemon.Kill(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *cluster) powerOn(n int) {
	c.Helper()
	route, err := c.host(2).try("sh", "-c", "ip route show default | head -n 1")
	if err == nil {
		_, err = c.host(n).try("sh", "-c", "ip link set eth0 up && ip route replace "+route)
	}
	for _, daemon := range []lab.Service{c.host(n).Causeway, c.host(n).Docker} {
		if err == nil {
			err = daemon.Start(c.Context())
		}
	}
	if err != nil {
		c.Fatal(err)
	}
}

// membersKilled kills the members of the store one after the other while containers
// start and stop, for as long as CAUSEWAY_CHURN says.
func membersKilled(c *cluster, voters []string) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("CAUSEWAY_CHURN"), "20s"))
	if err != nil {
		c.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.Context(), length)
	defer cancel()
	var churning sync.WaitGroup
	var mu sync.Mutex
	started, refused := 0, map[string]int{}
	for n := 1; n <= 4; n++ {
		churning.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("churn%d-%d", n, i)
				_, err := c.host(n).try("docker", "run", "-d", "--name", name, "--net=quorum", "busybox", "sleep", "3600")
				mu.Lock()
				if err == nil {
					started++
				} else {
					refused[err.Error()[strings.LastIndex(err.Error(), ": ")+1:]]++
				}
				mu.Unlock()
				c.host(n).remove(name)
			}
		})
	}
	kills := 0
	for ; ctx.Err() == nil; kills++ {
		name := voters[kills%len(voters)]
		member := c.lab.Hosts()[slices.IndexFunc(c.lab.Hosts(), func(h *lab.Host) bool { return h.Name() == name })].Causeway
		if err := member.Kill(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.wait(ctx, 2*time.Second)
		if err := member.Start(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.storeHeldBy(voters...)
	}
	churning.Wait()
	c.Logf("%d kills in %v: %d containers started, refused %v", kills, length, started, refused)
	if started == 0 {
		c.Error("no container was started")
	}
	c.noAddressTwice()
	// What was deleted while causeway was away is collected when it has been seen dead
	// for half a minute by one process.
	eventuallyWithin(c.T, 2*time.Minute, "only the containers that run have a place", func() error {
		out, err := c.host(2).try("causeway", "endpoints", "quorum")
		if strings.Contains(out, "churn") {
			err = fmt.Errorf("left are:\n%s", out)
		}
		return err
	})
}

// wait waits for a time that a fault is to last.
func (c *cluster) wait(ctx context.Context, length time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(length):
	}
}

// noAddressTwice looks at all endpoints.
func (c *cluster) noAddressTwice() {
	c.Helper()
	out, err := c.host(2).try("causeway", "endpoints", "--json")
	if err != nil {
		c.Fatal(err)
	}
	var endpoints []struct {
		Network, Host, ID string
		Addrs             []string
	}
	if err := json.Unmarshal([]byte(out), &endpoints); err != nil {
		c.Fatal(err)
	}
	holders := make(map[string]string)
	for _, e := range endpoints {
		for _, addr := range e.Addrs {
			key := e.Network + " " + addr
			if other, twice := holders[key]; twice {
				c.Errorf("%s is of %s and of %s on %s", key, other, e.ID, e.Host)
			}
			holders[key] = e.ID
		}
	}
}
