package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
	"github.com/causeway-net/causeway/records"
)

// TestRefusals has users make mistakes, and things be missing: each gets one
// sentence, and nothing changes.
func TestRefusals(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	c.network("first", "--subnet=192.168.60.0/24", "-o", "vni=6000")
	one := c.host(1).run("one", "--net=first", "--ip=192.168.60.10")
	two := c.host(2).run("two", "--net=first")
	t.Run("commands", func(t *testing.T) { c.sub(t).refusedCommands() })
	t.Run("as many subnets as fit", func(t *testing.T) {
		c := c.sub(t)
		c.network("large", subnets(records.MaxSubnets)...)
		c.host(2).docker("network", "rm", "large")
		for _, h := range []*host{c.host(1), c.host(2)} {
			eventually(t, "the network is gone from "+h.Name(), func() error {
				out, err := h.try("docker", "network", "ls", "--format={{.Name}}", "--filter=name=large")
				if err == nil && out != "" {
					err = fmt.Errorf("it has %s", out)
				}
				return err
			})
		}
		c.network("large", subnets(records.MaxSubnets)...) // nothing of the first is left
	})
	t.Run("servers", func(t *testing.T) { c.sub(t).refusedServers() })
	t.Run("store away", func(t *testing.T) { c.sub(t).storeAway(one, two) })
}

// subnets are the arguments for n subnets.
func subnets(n int) []string {
	var args []string
	for i := range n {
		args = append(args, fmt.Sprintf("--subnet=10.200.%d.0/24", i))
	}
	return args
}

func (c *cluster) refusedCommands() {
	create := []string{"docker", "network", "create", "-d", "causeway"}
	with := func(args ...string) []string { return append(create[:len(create):len(create)], args...) }
	run := func(args ...string) []string {
		return append(append([]string{"docker", "run", "--rm", "--net=first"}, args...), "busybox", "true")
	}
	for name, test := range map[string]struct {
		command []string
		want    string
	}{
		"unknown option":       {with("-o", "colour=red", "--subnet=10.1.0.0/24", "x"), `option "colour" is not known; known are`},
		"malformed option":     {with("-o", "mtu=big", "--subnet=10.1.0.0/24", "x"), `option mtu="big" must be a number from`},
		"VNI out of range":     {with("-o", "vni=16777216", "--subnet=10.1.0.0/24", "x"), `option vni="16777216" must be a number from 1 to 16777213`},
		"VNI taken":            {with("-o", "vni=6000", "--subnet=10.1.0.0/24", "x"), "vni 6000 is taken by network first"},
		"overlap":              {with("--subnet=192.168.60.0/25", "-o", "mode=underlay", "-o", "parent=eth0", "x"), "subnet 192.168.60.0/25 overlaps 192.168.60.0/24 of network first"},
		"overlap, our IPAM":    {with("--ipam-driver=causeway", "--subnet=192.168.0.0/16", "x"), "subnet 192.168.0.0/16 overlaps 192.168.60.0/24 of network first"},
		"the same subnet":      {with("--ipam-driver=causeway", "--subnet=192.168.60.0/24", "x"), "subnet 192.168.60.0/24 overlaps 192.168.60.0/24 of network first"},
		"too many subnets":     {with(append(subnets(records.MaxSubnets+1), "x")...), fmt.Sprintf("and may have %d", records.MaxSubnets)},
		"overlaps the VTEP":    {with("--subnet=10.99.0.0/16", "x"), "subnet 10.99.0.0/16 overlaps 10.99.0.0/24, the network of this host's VTEP 10.99.0.2"},
		"unknown IPAM option":  {with("--ipam-driver=causeway", "--ipam-opt=colour=red", "--subnet=10.1.0.0/24", "x"), `IPAM option "colour" is not known`},
		"no such plane":        {with("-o", "mode=magic", "--subnet=10.1.0.0/24", "x"), `option mode="magic" must be one of vxlan, ovs, underlay, routed`},
		"address in use":       {run("--ip=192.168.60.10"), "address 192.168.60.10 on network first is in use by host h1"},
		"address out of pool":  {run("--ip=192.168.61.10"), "192.168.61.10"}, // the engine's own sentence
		"address of a gateway": {run("--ip=192.168.60.1"), "address 192.168.60.1 on network first is in use as the gateway"},
	} {
		c.Run(name, func(t *testing.T) {
			h := c.host(2).sub(c, t) // first was made on h1, whose Docker refuses some by itself
			before := h.docker("network", "ls", "-q", "--filter", "driver=causeway")
			out, err := h.try(test.command...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, %v; want %s", out, err, test.want)
			}
			if after := h.docker("network", "ls", "-q", "--filter", "driver=causeway"); after != before {
				t.Errorf("networks were %q, are %q", before, after)
			}
		})
	}
}

// sub is the host for a subtest of c's.
func (h *host) sub(c *cluster, t *testing.T) *host { return &host{Host: h.Host, c: c.sub(t)} }

// refusedServers starts a second causeway in ways that cannot work.
func (c *cluster) refusedServers() {
	folder, err := c.host(1).try("sh", "-c", "ls -d /var/lib/causeway /var/lib/docker/plugins/*/propagated-mount 2>/dev/null || :")
	if err != nil {
		c.Fatal(err)
	}
	alone := func(args ...string) []string { // in a host of its own
		return append([]string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, args...)
	}
	second := func(args ...string) []string {
		return append([]string{"timeout", "10", "causeway", "serve", "--agent-socket=/run/second-agent.sock", "--socket=/run/second.sock", "--data-dir=/run/docker/second"}, args...)
	}
	for name, test := range map[string]struct {
		command []string
		want    string
	}{
		"the same socket": {second("--socket=/run/docker/plugins/causeway.sock"), "socket /run/docker/plugins/causeway.sock: another causeway answers on it"},
		"the same host":   {second(), "another causeway runs on this host"},
		"the same folder": {alone(second("--data-dir=" + folder)...), "data-dir " + folder + " is in use by another causeway"},
		"no such VTEP":    {alone(second("--vtep=eth7")...), `vtep "eth7" is neither an address nor an interface of this host`},
		"VTEP of another": {alone(second("--vtep=10.99.0.77")...), "vtep 10.99.0.77 is not an address of this host"},
		"bad scope":       {second("--scope=galaxy"), `--scope is "galaxy": it must be local or global`},
		"bad store":       {alone(second("--vtep=127.0.0.1", "--store=ftp://x")...), `"ftp://x" is not the address of a store`},
		"no privileges":   {append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, second()...), "is missing: run causeway as root"},
		"unknown flag":    {second("--colour"), "unknown flag: --colour"},
	} {
		c.Run(name, func(t *testing.T) {
			out, err := c.host(1).try(test.command...)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, %v; want %s", out, err, test.want)
			} else {
				t.Log(err)
			}
		})
	}
	c.host(1).docker("network", "inspect", "first") // the first causeway serves on
	c.host(1).docker("run", "--rm", "--net=first", "busybox", "true")
}

// storeAway has the store gone: containers keep their traffic, and calls that need it are refused in time.
func (c *cluster) storeAway(one, two container) {
	if err := c.host(1).Causeway.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	started := time.Now()
	_, err := c.host(2).try("docker", "network", "create", "-d", "causeway", "--subnet=10.1.0.0/24", "x")
	if err == nil || !strings.Contains(err.Error(), "store https://10.99.0.1:2379 unavailable") {
		c.Errorf("without a store: %v", err)
	}
	c.Logf("refused after %v", time.Since(started).Round(time.Millisecond))
	two.pings(one.addr("first"))
	out, err := c.host(2).try("causeway", "status")
	if err != nil || !strings.Contains(out, "store https://10.99.0.1:2379 unavailable") || strings.Contains(out, "no troubles") {
		c.Errorf("status: %v\n%s", err, out)
	}
	if err := c.host(1).Causeway.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "h2 works again", func() error {
		_, err := c.host(2).try("docker", "run", "--rm", "--net=first", "busybox", "true")
		return err
	})
	two.pings(one.addr("first"))
}
