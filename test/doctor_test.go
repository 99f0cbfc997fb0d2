package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/lab"
)

// TestDoctor breaks one thing after another on two hosts, and reads what doctor says.
func TestDoctor(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	c.network("ward", "--subnet=192.168.60.0/29")
	one, two := c.host(1).run("patient1", "--net=ward"), c.host(2).run("patient2", "--net=ward")
	one.pings(two.addr("ward"))
	eventually(t, "nothing is wrong on either host", func() error {
		for n := range c.lab.Hosts() {
			if found := c.diagnose(n + 1); len(found) > 0 {
				return fmt.Errorf("h%d: %+v", n+1, found)
			}
		}
		return nil
	})
	out, err := c.host(1).try("causeway", "doctor")
	if err != nil || out != "nothing found" {
		t.Errorf("a sound host: %v\n%s", err, out)
	}
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"an entry that another program deletes", func(c *cluster) { fightOverEntries(c, two) }},
		{"a packet is traced", func(c *cluster) { traced(c, two) }},
		{"a firewall on the other host", firewalled},
		{"a path that carries too little", blackHole},
		{"a firewall between routed networks", forwardsNothing},
		{"a stranger", func(c *cluster) { strangerKnocks(c, two, one) }},
		{"a full subnet", fullSubnet},
		{"causeway does not run", func(c *cluster) { deadHost(c, one) }},
		{"Docker's socket is gone", engineGone},
		{"no VTEP", lostVTEP},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// diagnose asks a host's doctor as its user does.
func (c *cluster) diagnose(n int, args ...string) []doctor.Finding {
	c.Helper()
	began := time.Now()
	out, err := c.host(n).try(append([]string{"causeway", "doctor", "--json"}, args...)...)
	if took := time.Since(began); took > 10*time.Second { // five, on a machine that is busy with other labs
		c.Errorf("doctor took %s", took)
	}
	var d doctor.Diagnosis
	if problem := json.Unmarshal([]byte(out), &d); problem != nil {
		c.Fatalf("doctor: %v: %s", err, out)
	}
	exit := new(exec.ExitError)
	if errors.As(err, &exit) != (len(d.Findings) > 0) || err != nil && exit.ExitCode() != 1 {
		c.Errorf("%d findings, and doctor ends with %v", len(d.Findings), err)
	}
	return d.Findings
}

// finds waits until a host's doctor has a finding whose cause has the words.
func (c *cluster) finds(n int, words string, args ...string) (found doctor.Finding) {
	c.Helper()
	eventually(c.T, "doctor finds: "+words, func() error {
		all := c.diagnose(n, args...)
		for _, found = range all {
			if strings.Contains(found.Cause, words) {
				return nil
			}
		}
		return fmt.Errorf("it finds %+v", all)
	})
	c.Logf("%s: %s\n  %s\n  %s", found.Severity, found.Cause, found.Evidence, found.Remedy)
	return found
}

// fightOverEntries deletes an entry each time that causeway has written it.
func fightOverEntries(c *cluster, peer container) {
	mac, namespace := peer.mac("ward"), c.host(1).namespaceWith(peer.addr("ward"))
	end := meanwhile(func() {
		_, _ = c.host(1).try("bridge", "-n", namespace, "fdb", "del", mac, "dev", "vxlan0", "self") // it may be gone already
	})
	f := c.finds(1, "network ward is not as planned")
	end()
	eventually(c.T, "the entry is back", func() error {
		_, err := c.host(1).try("sh", "-c", "bridge -n "+namespace+" fdb show dev vxlan0 | grep '"+mac+" dst'") // the bridge has one of its own
		return err
	})
	if !strings.Contains(f.Evidence, "missing: FDB "+mac+" to "+c.host(2).vtep().String()) {
		c.Errorf("the evidence is %s", f.Evidence)
	}
}

// meanwhile does something again and again until what it returns is called.
func meanwhile(do func()) (end func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				do()
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// strangerKnocks sends frames for a container from a machine that is no host.
func strangerKnocks(c *cluster, member, victim container) {
	frame := c.frameFor(member, victim, "ward")
	defer meanwhile(func() { c.injected(c.machine("plain").PID(), victim, frame) })()
	c.finds(1, "drops packets tunnelled by a sender without an endpoint on the network")
}

// wall drops on h2 what comes to it and matches.
func (c *cluster) wall(match string) (open func()) {
	c.Helper()
	c.must(c.host(2), "nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in "+match+" drop")
	return func() { c.must(c.host(2), "nft", "delete table inet wall") }
}

// firewalled is told on both sides: h2 knows that it is its own, and says so to h1, too.
func firewalled(c *cluster) {
	defer c.wall("udp dport 4789")()
	c.finds(1, "Nothing comes back through the tunnel from host h2.")
	const own = "This host's own firewall drops what comes through the tunnel from host h1."
	c.finds(2, own)
	if f := c.finds(1, own, "--all"); f.Host != "h2" {
		c.Errorf("it is found on %s", f.Host)
	}
}

func blackHole(c *cluster) {
	defer c.wall("udp dport 4789 meta length > 1400")()
	c.finds(1, "Large packets are lost on the way to host h2")
	if found := c.diagnose(2); len(found) > 0 { // what it sends is let through
		c.Errorf("h2 finds %+v", found)
	}
}

// forwardsNothing has h2 drop what it should forward to the containers of a routed network.
func forwardsNothing(c *cluster) {
	c.network("roads", "-o", "mode=routed", "--subnet=10.60.0.0/24")
	peer := c.host(2).run("roads2", "--net=roads")
	c.host(1).run("roads1", "--net=roads").pings(peer.addr("roads"))
	c.must(c.host(2), "nft", "add table inet shut; add chain inet shut through { type filter hook forward priority 0; }; add rule inet shut through icmp type echo-request drop")
	defer c.must(c.host(2), "nft", "delete table inet shut")
	c.finds(1, "Nothing comes back on networks of mode=routed from host h2.")
}

func fullSubnet(c *cluster) {
	for n := range 3 { // of six addresses one is the gateway's and two are taken
		c.host(1).run(fmt.Sprint("crowd", n), "--net=ward")
	}
	if f := c.finds(2, "The subnet 192.168.60.0/29 of network ward is full"); f.Severity != doctor.Problem {
		c.Errorf("its severity is %s", f.Severity)
	}
}

// lostVTEP comes last: h2's routes go with its address.
func lostVTEP(c *cluster) {
	c.must(c.host(2), "sh", "-c", "ip addr flush to "+c.host(2).vtep().String())
	c.finds(2, "has lost its VTEP")
}

// engineGone leaves h2 without an engine.
func engineGone(c *cluster) {
	if err := c.host(2).Docker.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.finds(2, "No Docker engine answers at")
}

func deadHost(c *cluster, peer container) {
	namespace := c.host(2).namespaceWith(peer.addr("ward"))
	c.loseHost(2)
	c.must(c.host(2), "bridge", "-n", namespace, "fdb", "replace", peer.mac("ward"), "dev", "vxlan0", "dst", "10.99.0.77", "self") // no host's
	r := c.traces(1, "patient1", "patient2")
	if !strings.Contains(r.Verdict, "no answer came there") || !strings.Contains(r.Unwatched, "host h2 does not answer") {
		c.Errorf("trace says: %s %s", r.Verdict, r.Unwatched)
	}
	c.finds(1, "causeway does not run on host h2", "--all")
	out, err := c.host(2).try("causeway", "doctor")
	exit := new(exec.ExitError)
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(out+err.Error(), "does not answer") {
		c.Errorf("without a causeway doctor ends with %v\n%s", err, out)
	}
	if err := c.host(2).Causeway.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
}
