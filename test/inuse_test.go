package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/lab"
)

// TestInUse removes networks that are in use elsewhere, and reads what the user is
// told.
func TestInUse(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"prune while a container is stopped elsewhere", pruneStoppedElsewhere},
		{"prune while a container is stopped here", pruneStoppedHere},
		{"compose down", composeDown},
		{"compose edits a network", composeEdit},
		{"removed while the store is away", removedInOutage},
		{"names", namesInRecords},
		// The last: an engine before 25.0 refuses networks while this one's may be put back.
		{"given up while the store is away", givenUpInOutage},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// create starts nothing: the container is configured for its networks only.
func (h *host) create(name string, args ...string) container {
	h.c.Helper()
	h.docker(append(append([]string{"create", "--name", name}, args...), "busybox", "sleep", "3600")...)
	h.c.Cleanup(func() { h.remove(name) })
	return container{h, name}
}

// tells waits until status of the host has a sentence.
func (h *host) tells(want string) {
	h.c.Helper()
	eventually(h.c.T, "status of "+h.Name()+" tells", func() error { return h.shows(want, "status") })
}

func (h *host) tellsNothing() {
	h.c.Helper()
	eventually(h.c.T, h.Name()+" has no troubles", func() error { return h.shows("no troubles", "status") })
}

// isConfigured waits until the cluster knows that a host has a container which is
// configured for a network.
func (c *cluster) isConfigured(network, host string) {
	c.Helper()
	eventually(c.T, network+" is known to be in use on "+host, func() error {
		out, err := c.host(2).try("causeway", "networks", "--json")
		if err != nil {
			return err
		}
		var listed []struct {
			Name       string
			Configured []string
		}
		if err := json.Unmarshal([]byte(out), &listed); err != nil {
			return err
		}
		for _, n := range listed {
			if n.Name == network && slices.Contains(n.Configured, host) {
				return nil
			}
		}
		return fmt.Errorf("the networks are:\n%s", out)
	})
}

func pruneStoppedElsewhere(c *cluster) {
	c.network("pruned", "--subnet=10.60.0.0/24")
	c.network("unused", "--subnet=10.61.0.0/24")
	stopped := c.host(1).run("stopped", "--net=pruned")
	c.host(1).docker("stop", "-t", "0", "stopped")
	c.host(1).create("never-ran", "--net=pruned")
	c.isConfigured("pruned", "h1")
	if out := c.host(2).docker("network", "prune", "-f"); !strings.Contains(out, "pruned") {
		c.Fatalf("nothing was pruned: %s", out)
	}
	c.nowhere("unused")
	c.host(2).tells("network pruned was removed here and put back: in use on h1")
	c.everywhere("pruned")
	c.host(1).docker("start", "stopped")
	c.host(2).run("guest", "--net=pruned").pings(stopped.addr("pruned"))
	c.host(2).tellsNothing()
	// Nobody is configured for it any more.
	c.host(1).docker("rm", "-f", "stopped", "never-ran")
	c.host(2).docker("rm", "-f", "guest")
	c.host(2).docker("network", "prune", "-f")
	c.nowhere("pruned")
}

func pruneStoppedHere(c *cluster) {
	c.network("kept", "--subnet=10.62.0.0/24")
	for n := range 2 {
		h := c.host(n + 1)
		h.create("created", "--net=kept")
		c.isConfigured("kept", h.Name())
		h.docker("network", "prune", "-f")
		h.tells(fmt.Sprintf("network kept was removed here and put back: in use on %s", h.Name()))
		h.docker("start", "created")
		h.tellsNothing()
		h.docker("rm", "-f", "created")
	}
	c.host(1).docker("network", "prune", "-f")
	c.nowhere("kept")
}

// composeDown removes its container and at once the network, on one host.
func composeDown(c *cluster) {
	c.network("app_default", "--subnet=10.63.0.0/24")
	c.host(1).create("app-web-1", "--net=app_default")
	c.isConfigured("app_default", "h1")
	c.host(2).run("app-web-2", "--net=app_default")
	c.host(2).docker("rm", "-f", "app-web-2")
	c.host(2).docker("network", "rm", "app_default")
	c.host(2).tells("network app_default was removed here and put back: in use on h1")
	c.host(1).docker("rm", "-f", "app-web-1")
	c.host(1).docker("network", "rm", "app_default")
	c.nowhere("app_default")
	c.host(2).tellsNothing()
}

// composeEdit recreates a network under its name with another subnet, as compose
// does after its definition was edited.
func composeEdit(c *cluster) {
	recreate := func(h *host, subnet string) error {
		_, err := h.try("sh", "-c", "docker network rm edited && docker network create -d causeway --subnet="+subnet+" edited")
		return err
	}
	c.network("edited", "--subnet=10.64.0.0/24")
	other := c.host(2).run("other", "--net=edited")
	for range 3 {
		err := recreate(c.host(1), "10.65.0.0/24")
		const want = "network edited exists in the cluster with subnet 10.64.0.0/24, in use on h2"
		if err == nil || !strings.Contains(err.Error(), want) {
			c.Fatalf("a network of that name was created, or its error lacks %q: %v", want, err)
		}
		c.Log(err)
		c.everywhere("edited")
		c.host(1).run("mine", "--net=edited").pings(other.addr("edited"))
		c.host(1).docker("rm", "-f", "mine")
	}
	// Another name is another network; engines before 25.0 have to ask twice.
	another := "docker network create -d causeway --subnet=10.66.0.0/24 another"
	if _, err := c.host(1).try("sh", "-c", "docker network rm edited && "+another+" || "+another); err != nil {
		c.Error(err)
	}
	c.Cleanup(func() { c.removeNetwork("another") })
	c.everywhere("another")
	c.everywhere("edited")
	// Where nobody uses it, it takes the new definition.
	c.host(2).docker("rm", "-f", "other")
	if err := recreate(c.host(1), "10.65.0.0/24"); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "the new network is everywhere", func() error {
		for n := range c.lab.Hosts() {
			out, err := c.host(n+1).try("docker", "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "edited")
			if err != nil || out != "10.65.0.0/24" {
				return fmt.Errorf("%s has %s: %w", c.host(n+1).Name(), out, err)
			}
		}
		return nil
	})
}

// removedInOutage removes networks on h2 while the store on h1 is away.
func removedInOutage(c *cluster) {
	c.network("used", "--subnet=10.67.0.0/24")
	c.network("idle", "--subnet=10.68.0.0/24")
	c.host(1).run("user", "--net=used")
	if err := c.host(1).Causeway.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.host(2).docker("network", "rm", "used", "idle")
	if err := c.host(1).Causeway.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.host(2).tells("network used was removed here while the store was away and put back: in use on h1")
	c.everywhere("used")
	c.nowhere("idle")
}

// givenUpInOutage has a restart policy start a container while the store is away.
func givenUpInOutage(c *cluster) {
	c.network("fallen", "--subnet=10.71.0.0/24")
	phoenix := c.host(2).run("phoenix", "--net=fallen", "--restart=always")
	if err := c.host(1).Causeway.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	if _, err := c.host(2).try("kill", "-9", fmt.Sprint(phoenix.pid())); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "the engine gives phoenix up", func() error {
		out, err := c.host(2).try("docker", "inspect", "-f", "{{.State.Status}}", "phoenix")
		if err == nil && out != "exited" {
			err = fmt.Errorf("it is %s", out)
		}
		return err
	})
	if err := c.host(1).Causeway.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.host(2).tells("container phoenix is stopped although its restart policy is always: ")
	c.host(2).docker("start", "phoenix")
	c.host(2).tellsNothing()
}

// namesInRecords reads on h1 by which names h2's containers are found.
func namesInRecords(c *cluster) {
	c.network("named", "--subnet=10.69.0.0/24")
	c.network("second", "--subnet=10.70.0.0/24")
	has := func(network, name string, want ...string) {
		c.Helper()
		eventually(c.T, fmt.Sprintf("%s has the names %q on %s", name, want, network), func() error {
			for _, endpoint := range ask[[]agent.Endpoint](c.host(1), "endpoints", network) {
				if endpoint.Name != name {
					continue
				}
				for _, one := range want {
					if !slices.Contains(endpoint.Names, one) {
						return fmt.Errorf("they are %q", endpoint.Names)
					}
				}
				if endpoint.Names[0] != name {
					return fmt.Errorf("the first is not its own: %q", endpoint.Names)
				}
				return nil
			}
			return fmt.Errorf("it has no endpoint of that name there")
		})
	}
	db := c.host(2).run("db", "--net=named", "--network-alias=postgres", "--hostname=dbhost")
	short := db.inspect("{{.Id}}")[:12]
	has("named", "db", "postgres", short, "dbhost")
	c.host(2).docker("network", "connect", "--alias=store", "second", "db")
	has("second", "db", "store", short)
	c.host(2).docker("rename", "db", "db2")
	c.Cleanup(func() { c.host(2).remove("db2") })
	has("named", "db2", "postgres", short)
	has("second", "db2", "store")
	c.host(2).docker("network", "disconnect", "second", "db2")
	c.host(2).docker("restart", "-t", "0", "db2")
	has("named", "db2", "postgres", short)
	if endpoints := ask[[]fabric.Endpoint](c.host(1), "endpoints", "second"); len(endpoints) > 0 {
		c.Errorf("it is still on second: %v", endpoints)
	}
}
