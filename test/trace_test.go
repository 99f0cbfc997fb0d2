package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/trace"
)

// traces follows a packet as a host's user does.
func (c *cluster) traces(n int, args ...string) (r trace.Result) {
	c.Helper()
	out, err := c.host(n).try(append([]string{"causeway", "trace", "--json"}, args...)...)
	if problem := json.Unmarshal([]byte(out), &r); problem != nil {
		c.Fatalf("trace: %v: %s", err, out)
	}
	exit := new(exec.ExitError)
	if errors.As(err, &exit) == r.Answered || err != nil && exit.ExitCode() != 1 {
		c.Errorf("answered %v, and trace ends with %v", r.Answered, err)
	}
	c.Logf("%s %s", r.Verdict, r.Unwatched)
	return r
}

// tracedAcross follows a packet between two hosts and within one: every hop that can be
// heard sees it, and has what the records want. Doctor finds that packets come back, and
// both hosts tell who talks to whom.
func tracedAcross(c *cluster) {
	c.network("followed", "--subnet=192.168.72.0/24")
	first := c.host(1).run("walker1", "--net=followed")
	peer := c.host(2).run("walker2", "--net=followed")
	near := c.host(1).run("walker3", "--net=followed")
	first.pings(peer.addr("followed"))
	for to, hosts := range map[string]int{"walker2": 2, near.addr("followed"): 1} {
		if slices.Contains(c.options, "mode=underlay") { // its bridges forget who is silent
			for n := range c.lab.Hosts() {
				c.must(c.host(n+1), "ip", "link", "set", "cw-eth0", "type", "bridge", "fdb_flush")
			}
		}
		c.sound(c.traces(1, "walker1", to), hosts)
	}
	for n, line := range map[int]string{1: `followed +walker1 +walker2 `, 2: `followed +walker2 +walker1 `} {
		c.talks(n, line+` +[\d.]+ kbit/s +[\d.]+ kbit/s +[1-9]\d*, [1-9]\d*`, func() { first.must("ping", "-q", "-c", "5", "-i", "0.01", "-s", "1000", peer.addr("followed")) })
	}
	for _, finding := range c.diagnose(1) {
		if strings.Contains(finding.Scope, "the way to") {
			c.Errorf("doctor finds %+v", finding)
		}
	}
}

// talks wants a host to tell of a conversation.
func (c *cluster) talks(n int, line string, talk func()) {
	c.Helper()
	want := regexp.MustCompile(line)
	if _, err := c.host(n).try("causeway", "talk"); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "it is told who talks to whom", func() error {
		talk()
		out, err := c.host(n).try("causeway", "talk")
		if err == nil && !want.MatchString(out) {
			err = fmt.Errorf("h%d does not tell of %s:\n%s", n, want, out)
		}
		return err
	})
}

// sound checks a trace of a packet that arrived.
func (c *cluster) sound(r trace.Result, hosts int) {
	c.Helper()
	if !r.Answered || r.Unwatched != "" {
		c.Errorf("a sound way: %+v", r)
	}
	heard := map[string]int{}
	for _, hop := range r.Hops {
		if hop.Watched {
			heard[hop.Host]++
		}
		if hop.Watched && (!hop.Request || !hop.Answer) {
			c.Errorf("%s saw request %v, answer %v", hop, hop.Request, hop.Answer)
		}
		for _, check := range hop.Checks {
			if check.Have != check.Want {
				c.Errorf("%s: want %s, have %s", hop, check.Want, check.Have)
			}
		}
	}
	if len(heard) != hosts || heard["h1"] < 2 {
		c.Errorf("hops were heard on hosts %v, want %d", heard, hosts)
	}
}

// traced follows packets that arrive, that a firewall drops, and past a missing entry.
func traced(c *cluster, peer container) {
	r := c.traces(1, "patient1", "patient2")
	if len(r.Hops) != 8 {
		c.Errorf("a sound way: %+v", r)
	}
	c.sound(r, 2)
	if r := c.traces(1, "patient1", peer.addr("ward"), "--port=81"); !strings.Contains(r.Verdict, "refuses TCP port 81") {
		c.Errorf("a port that is closed: %+v", r)
	}
	c.tracesToFirewall()
	mac, namespace := peer.mac("ward"), c.host(1).namespaceWith(peer.addr("ward"))
	defer meanwhile(func() {
		_, _ = c.host(1).try("bridge", "-n", namespace, "fdb", "del", mac, "dev", "vxlan0", "self") // it may be gone already
	})()
	eventually(c.T, "trace shows the missing entry", func() error {
		for _, hop := range c.traces(1, "patient1", "patient2").Hops {
			for _, check := range hop.Checks {
				if check.Want == "FDB "+mac+" to "+c.host(2).vtep().String() && check.Have == "nothing" {
					return nil
				}
			}
		}
		return fmt.Errorf("it does not")
	})
	out, err := c.host(1).try("causeway", "trace", "patient2", "patient1")
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out+err.Error(), "run causeway trace there") {
		c.Errorf("a container of another host: %v\n%s", err, out)
	}
}

// tracesToFirewall names the hop at which h2 drops what comes, and h1 what it answers.
func (c *cluster) tracesToFirewall() {
	c.Helper()
	open := c.wall("udp dport 4789")
	defer open()
	for n, way := range map[int]string{
		1: "The request passed the NIC %s of host h2 and did not come to the tunnel vxlan0 on host h2: a packet filter of host h2",
		2: "The answer passed the NIC %s of host h2 and did not come to the tunnel vxlan0 on host h2: a packet filter of host h2",
	} {
		r := c.traces(n, fmt.Sprint("patient", n), fmt.Sprint("patient", 3-n))
		nic := ""
		for _, hop := range r.Hops {
			if hop.Host == "h2" && hop.Kind == trace.NIC {
				nic = hop.Name
			}
		}
		if r.Answered || !strings.HasPrefix(r.Verdict, fmt.Sprintf(way, nic)) {
			c.Errorf("with a firewall on h2: %+v", r)
		}
	}
}
