package test

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/causeway-net/causeway/agent"
)

// ask runs a causeway command with --json on a host, and decodes what it prints.
func ask[T any](h *host, args ...string) (value T) {
	h.c.Helper()
	out, err := h.try(append(append([]string{"causeway"}, args...), "--json")...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &value)
	}
	if err != nil {
		h.c.Fatalf("causeway %s on %s: %v\n%s", strings.Join(args, " "), h.Name(), err, out)
	}
	return value
}

func (c *cluster) clusterNetworks(n int) []agent.Network {
	c.Helper()
	return ask[[]agent.Network](c.host(n), "networks")
}

// statusOfAll reads on h1 what runs on the others.
func statusOfAll(c *cluster) {
	c.network("seen", "--subnet=10.40.0.0/28")
	c.host(2).run("seen2", "--net=seen")
	c.host(3).run("seen3", "--net=seen", "--ip=10.40.0.5")
	eventually(c.T, "the containers' names are known", func() error {
		if err := c.host(1).shows("seen2", "endpoints", "seen"); err != nil {
			return err
		}
		return c.host(1).shows("seen3", "endpoints", "seen")
	})
	out, err := c.host(1).try("causeway", "status")
	if err != nil {
		c.Fatal(err)
	}
	c.Log(out)
	for _, want := range []string{
		`(?m)^store: +answers$`,
		`(?m)^h3 +10\.99\.0\.3 +1500 +1 +(leads|votes|learns|-)? *\d{4}-\d\d-\d\d \d\d:\d\d:\d\d +\S+$`,
		`(?m)^[0-9a-f]{12} +seen +vxlan +8\d{6} +10\.40\.0\.0/28 +3 +11 +h2,h3$`,
		`(?m)^no troubles$`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			c.Errorf("status lacks %s", want)
		}
	}
	out, err = c.host(1).try("causeway", "endpoints", "seen")
	if want := `(?m)^seen +h3 +[0-9a-f]{12} +02(:[0-9a-f]{2}){5} +10\.40\.0\.5/28 +seen3,[0-9a-f]{12}$`; err != nil || !regexp.MustCompile(want).MatchString(out) {
		c.Errorf("endpoints lack %s: %v\n%s", want, err, out)
	}
	status := ask[agent.Status](c.host(1), "status")
	if len(status.Hosts) != 3 || status.Hosts[1].AliveSince == nil || len(status.Troubles) != 0 {
		c.Errorf("status --json has %+v", status)
	}
	if hosts := ask[[]agent.Host](c.host(2), "hosts"); len(hosts) != 3 || hosts[0].Name != "h1" {
		c.Errorf("hosts --json has %+v", hosts)
	}
	if endpoints := ask[[]agent.Endpoint](c.host(2), "endpoints", "seen"); len(endpoints) != 2 {
		c.Errorf("endpoints --json has %+v", endpoints)
	}
	if _, err := c.host(1).try("causeway", "endpoints", "nosuch"); err == nil || !strings.Contains(err.Error(), "the cluster has no network nosuch") {
		c.Errorf("endpoints of a network that is not there: %v", err)
	}
}

// releaseDeadHost gives the address of a host that is gone to another. The host is not
// started again: a released one is let in with a new token alone.
func releaseDeadHost(c *cluster) {
	c.network("lost", "--subnet=10.41.0.0/24")
	c.host(3).run("stranded", "--net=lost", "--ip=10.41.0.9")
	if _, err := c.host(1).try("causeway", "hosts", "rm", "h3"); err == nil || !strings.Contains(err.Error(), "host h3 is alive: stop causeway there first") {
		c.Errorf("a host that is alive: %v", err)
	}
	if _, err := c.host(1).try("causeway", "hosts", "rm", "h9"); err == nil || !strings.Contains(err.Error(), "host h9") {
		c.Errorf("a host that is not known: %v", err)
	}
	if err := c.host(3).Docker.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.storeHeldBy("h1", "h2", "h3")
	c.loseHost(3)
	if _, err := c.host(1).try("docker", "run", "--rm", "--net=lost", "--ip=10.41.0.9", "busybox", "true"); err == nil {
		c.Error("the address of a host that may come back was given out")
	}
	out, err := c.host(1).try("causeway", "hosts", "rm", "h3")
	if err != nil {
		c.Fatal(err)
	}
	if !strings.Contains(out, `run "causeway ca rotate"`) {
		c.Errorf("of the authority's key, which h3 has, it says nothing: %s", out)
	}
	c.host(1).docker("run", "--rm", "--net=lost", "--ip=10.41.0.9", "busybox", "true")
	if hosts := ask[[]agent.Host](c.host(2), "hosts"); len(hosts) != 2 {
		c.Errorf("hosts are left: %+v", hosts)
	}
}
