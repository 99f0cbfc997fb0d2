package test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/lab"
)

// TestMirror holds the cluster's networks and the engines' together.
func TestMirror(t *testing.T) {
	c := up(t, lab.Options{Hosts: 3})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"the same on all hosts", mirrorSame},
		{"compose's labels", mirrorCompose},
		{"put back while in use", mirrorPutBack},
		{"a host catches up", mirrorCatchUp},
		{"a name that is taken", mirrorNameTaken},
		{"one name at once", mirrorRace},
		{"an address clash is refused", mirrorAddressClash},
		{"forty containers at once", fortyAtOnce},
		{"an engine restarts meanwhile", mirrorEngineRestart},
		{"status", statusOfAll},
		{"a dead host is released", releaseDeadHost}, // the last: h3 is gone
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// shown is what "docker network inspect" shows of a network, and what the same
// network must show on every host.
type shown struct {
	Driver     string
	Internal   bool
	EnableIPv6 bool
	Labels     map[string]string
	Options    map[string]string
	IPAM       struct {
		Driver string
		Config []shownSubnet
	}
}

type shownSubnet struct {
	Subnet, IPRange, Gateway string
	AuxiliaryAddresses       map[string]string
}

// inspectNetwork reads a network without what differs by design: the link to the
// record, and the IPAM driver, which is causeway's on the hosts that mirror it.
func (h *host) inspectNetwork(name string) (network shown, ipamDriver string) {
	h.c.Helper()
	var networks []shown
	if err := json.Unmarshal([]byte(h.docker("network", "inspect", name)), &networks); err != nil || len(networks) != 1 {
		h.c.Fatalf("%s has %d networks %s: %v", h.Name(), len(networks), name, err)
	}
	network = networks[0]
	ipamDriver, network.IPAM.Driver = network.IPAM.Driver, ""
	delete(network.Options, "causeway.network")
	for i := range network.IPAM.Config {
		subnet := &network.IPAM.Config[i]
		// Engines differ in whether they show an IPv6 gateway with its length, and
		// from 29.0 on they show one that nobody gave: the lowest address.
		subnet.Gateway, _, _ = strings.Cut(subnet.Gateway, "/")
		if subnet.Gateway == netip.MustParsePrefix(subnet.Subnet).Addr().Next().String() {
			subnet.Gateway = ""
		}
	}
	return network, ipamDriver
}

// sameEverywhere compares a network that was made on the host maker.
func (c *cluster) sameEverywhere(name string, maker int) {
	c.Helper()
	want, _ := c.host(maker).inspectNetwork(name)
	for n := range c.lab.Hosts() {
		if n+1 == maker {
			continue
		}
		got, ipamDriver := c.host(n + 1).inspectNetwork(name)
		if diff := cmp.Diff(want, got); diff != "" {
			c.Errorf("%s on %s and on %s (-, +):\n%s", name, c.host(maker).Name(), c.host(n+1).Name(), diff)
		}
		if ipamDriver != "causeway" {
			c.Errorf("%s on %s has the IPAM driver %s", name, c.host(n+1).Name(), ipamDriver)
		}
	}
}

func mirrorSame(c *cluster) {
	for name, args := range map[string][]string{
		"plain": {"--subnet=10.20.0.0/24"},
		"full": {
			"--subnet=10.21.0.0/16", "--ip-range=10.21.4.0/24", "--gateway=10.21.0.254", "--aux-address=printer=10.21.4.9",
			"--ipv6", "--subnet=fd21::/64", "--gateway=fd21::fe", "--internal", "--label=tier=back", "--label=empty=",
			"-o", "vni=4242", "-o", "com.docker.network.driver.mtu=1400",
		},
		"owned":  {"--ipam-driver=causeway", "--subnet=10.22.0.0/24", "--aux-address=a=10.22.0.7"},
		"spaced": {"--ipam-driver=causeway", "--ipam-opt=space=other", "--subnet=10.22.0.0/24"},
		"picked": nil,
	} {
		c.host(2).docker(append(append([]string{"network", "create", "-d", "causeway"}, args...), name)...)
		begin := time.Now()
		c.everywhere(name)
		c.Logf("%s is on all hosts after %v", name, time.Since(begin).Round(time.Millisecond))
		c.sameEverywhere(name, 2)
		c.host(3).docker("network", "rm", name)
		c.nowhere(name)
	}
}

// nowhere waits until no engine has the network.
func (c *cluster) nowhere(name string) {
	c.Helper()
	for n := range c.lab.Hosts() {
		c.host(n + 1).loses(name)
	}
}

func (h *host) loses(name string) {
	h.c.Helper()
	eventually(h.c.T, name+" is gone from "+h.Name(), func() error {
		if h.has(name) {
			return fmt.Errorf("it is there")
		}
		return nil
	})
}

// has says whether the engine lists a network of causeway's by that name.
func (h *host) has(name string) bool {
	h.c.Helper()
	out := h.docker("network", "ls", "--filter", "driver=causeway", "--format", "{{.Name}}")
	return slices.Contains(strings.Fields(out), name)
}

// mirrorCompose makes a network as docker compose does, by its labels; compose
// takes a network for its own if it bears them.
func mirrorCompose(c *cluster) {
	c.network("app_default", "--subnet=10.23.0.0/24",
		"--label=com.docker.compose.project=app", "--label=com.docker.compose.network=default",
		"--label=com.docker.compose.version=2.40.3", "--label=com.docker.compose.config-hash=0123abcd")
	c.sameEverywhere("app_default", 1)
	out := c.host(3).docker("network", "ls", "--filter", "label=com.docker.compose.project=app", "--format", "{{.Name}}")
	if out != "app_default" {
		c.Errorf("compose on h3 would find %q", out)
	}
}

func mirrorPutBack(c *cluster) {
	c.network("used", "--subnet=10.24.0.0/24")
	user := c.host(1).run("user", "--net=used")
	old := c.host(2).docker("network", "inspect", "-f", "{{.Id}}", "used")
	c.host(2).docker("network", "rm", "used")
	eventually(c.T, "used is put back on h2", func() error {
		id, err := c.host(2).try("docker", "network", "inspect", "-f", "{{.Id}}", "used")
		if err == nil && id == old {
			return fmt.Errorf("it was not removed")
		}
		return err
	})
	eventually(c.T, "the log of h2 says why", func() error {
		return c.host(2).logged("used", "removed here and put back: in use on h1")
	})
	c.host(2).run("guest", "--net=used").pings(user.addr("used"))
	c.host(2).docker("rm", "-f", "guest")
	c.host(1).docker("rm", "-f", "user")
	c.host(2).docker("network", "rm", "used")
	c.nowhere("used")
}

// logged looks for a line of the host's causeway that has all of the words.
func (h *host) logged(words ...string) error {
	text, err := os.ReadFile(h.Causeway.Log())
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return nil
		}
	}
	return fmt.Errorf("the log has no line with %q", words)
}

// mirrorCatchUp stops a part of h3, makes a network and removes another meanwhile.
func mirrorCatchUp(c *cluster) {
	for n, service := range []lab.Service{c.host(3).Causeway, c.host(3).Docker} {
		gone, made := fmt.Sprint("gone", n), fmt.Sprint("made", n)
		c.network(gone, fmt.Sprintf("--subnet=10.25.%d.0/24", n))
		if err := service.Stop(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.host(1).docker("network", "rm", gone)
		c.host(1).docker("network", "create", "-d", "causeway", fmt.Sprintf("--subnet=10.26.%d.0/24", n), made)
		c.Cleanup(func() { c.removeNetwork(made) })
		if service == c.host(3).Docker && c.host(3).Causeway.PID() != 0 { // a plugin goes with its engine
			eventually(c.T, "status on h3 tells that the engine is away", func() error {
				return c.host(3).shows("no Docker engine answers", "status")
			})
		}
		if err := service.Start(c.Context()); err != nil {
			c.Fatal(err)
		}
		c.everywhere(made)
		c.host(3).loses(gone)
		eventually(c.T, "h3 has no troubles left", func() error { return c.host(3).shows("no troubles", "status") })
	}
}

// shows runs a causeway command that must print want.
func (h *host) shows(want string, args ...string) error {
	out, err := h.try(append([]string{"causeway"}, args...)...)
	if err == nil && !strings.Contains(out, want) {
		return fmt.Errorf("causeway %s on %s lacks %q:\n%s", strings.Join(args, " "), h.Name(), want, out)
	}
	return err
}

func mirrorNameTaken(c *cluster) {
	id := c.host(3).docker("network", "create", "-d", "bridge", "taken")
	c.host(1).docker("network", "create", "-d", "causeway", "--subnet=10.27.0.0/24", "taken")
	c.Cleanup(func() { c.removeNetwork("taken") })
	const complaint = "network taken of the cluster cannot be created here: the engine has another of that name (driver bridge)"
	eventually(c.T, "h3 reports the clash", func() error { return c.host(3).shows(complaint, "status") })
	if err := c.host(3).logged(complaint); err != nil {
		c.Error(err)
	}
	if out := c.host(3).docker("network", "ls", "-q", "--no-trunc", "--filter", "name=^taken$"); out != id {
		c.Errorf("h3 has %q for its own network %s", out, id)
	}
	c.host(3).docker("network", "rm", id)
	c.everywhere("taken")
	eventually(c.T, "h3 has no troubles left", func() error { return c.host(3).shows("no troubles", "status") })
}

// mirrorRace has all hosts make a network of one name at the same instant.
func mirrorRace(c *cluster) {
	for round := range 4 {
		var wait sync.WaitGroup
		won := make([]bool, len(c.lab.Hosts()))
		for n := range c.lab.Hosts() {
			subnet := fmt.Sprintf("--subnet=10.%d.0.0/24", 30+n) // a race of names alone …
			if round%2 == 1 {
				subnet = "--subnet=10.30.0.0/24" // … and of subnets too
			}
			wait.Go(func() {
				_, err := c.host(n+1).try("docker", "network", "create", "-d", "causeway", subnet, "race")
				won[n] = err == nil
			})
		}
		wait.Wait()
		if !slices.Contains(won, true) {
			c.Fatal("nobody could make the network")
		}
		eventually(c.T, "one network race is everywhere", func() error { return c.onlyOne("race") })
		c.Logf("round %d: without an error on hosts %v", round+1, won)
		c.host(1).docker("network", "rm", "race")
		c.nowhere("race")
		eventually(c.T, "race is out of the records", func() error {
			if err := c.host(2).shows(`"name": "race"`, "networks", "--json"); err == nil {
				return fmt.Errorf("it is there")
			}
			return nil
		})
	}
}

// onlyOne says whether the cluster has one network of that name, without
// another on its way, and each engine too.
func (c *cluster) onlyOne(name string) error {
	networks := c.clusterNetworks(1)
	if len(networks) != 1 || networks[0].Name != name {
		return fmt.Errorf("the cluster has %v", networks)
	}
	for n := range c.lab.Hosts() {
		out, err := c.host(n+1).try("docker", "network", "ls", "-q", "--filter", "name=^"+name+"$")
		if err != nil || len(strings.Fields(out)) != 1 {
			return fmt.Errorf("%s has networks %q: %w", c.host(n+1).Name(), out, err)
		}
		subnet, err := c.host(n+1).try("docker", "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", name)
		if err != nil || subnet != networks[0].Subnets[0].Prefix.String() {
			return fmt.Errorf("%s has subnet %s: %w", c.host(n+1).Name(), subnet, err)
		}
	}
	return nil
}

func mirrorAddressClash(c *cluster) {
	c.network("clash", "--subnet=10.28.0.0/24")
	c.host(2).run("holder", "--net=clash", "--ip=10.28.0.9")
	eventually(c.T, "the holder's name is known", func() error { return c.host(1).shows("holder", "endpoints", "clash") })
	_, err := c.host(1).try("docker", "run", "--rm", "--net=clash", "--ip=10.28.0.9", "busybox", "true")
	if err == nil {
		c.Fatal("one address was given twice")
	}
	c.Log(err)
	for _, want := range []string{"10.28.0.9", "host h2", "holder", "--ip"} {
		if !strings.Contains(err.Error(), want) {
			c.Errorf("the refusal does not name %s", want)
		}
	}
}

func mirrorEngineRestart(c *cluster) {
	const count = 6
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := c.host(2).Docker.Restart(c.Context()); err != nil {
			c.Error(err)
		}
	})
	for n := range count {
		name := fmt.Sprint("many", n)
		c.host(1).docker("network", "create", "-d", "causeway", fmt.Sprintf("--subnet=10.29.%d.0/24", n), name)
		c.Cleanup(func() { c.removeNetwork(name) })
	}
	wait.Wait()
	for n := range count {
		c.everywhere(fmt.Sprint("many", n))
	}
}

// TestByHand joins networks without the mirror.
func TestByHand(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, CausewayArgs: []string{"--docker-socket=none"}})
	for n := range c.lab.Hosts() {
		c.host(n+1).docker("network", "create", "-d", "causeway", "--ipam-driver=causeway", "-o", "causeway.network=foo", "--subnet=192.168.1.0/24", "foo")
	}
	first, second := c.host(1).run("first", "--net=foo"), c.host(2).run("second", "--net=foo")
	first.pings(second.addr("foo"))
	second.pings(first.addr("foo"))
	if networks := c.clusterNetworks(2); len(networks) != 1 {
		t.Errorf("the cluster has %v", networks)
	}
}
