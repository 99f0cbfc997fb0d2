// Package test has the end-to-end tests: real engines, real containers, and
// causeway as its users run it.
//
// A suite brings up one lab and runs the same capabilities on it, one file each,
// for a data plane: TestVXLAN, TestOVS, …. Each capability makes networks and
// containers of its own and removes them.
package test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/lab"
)

// cluster is a lab under test, with what its networks are made with.
type cluster struct {
	*testing.T
	lab *lab.Lab
	// options are the -o pairs of the data plane under test.
	options []string
	// overhead is what its tunnel takes off the MTU, in bytes.
	overhead int
}

// up brings a lab up, and takes it down after the test, with its logs in the
// test's output if that failed. The engines are what make test-e2e ENGINE=… asks
// for: one version, or one for each host. As many labs are up at once as LABS says.
func up(t *testing.T, o lab.Options) *cluster {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the lab makes network namespaces")
	}
	t.Parallel() // a lab waits more than it works
	o.Name = labName(t)
	o.Causeway = binary(t, "causeway")
	engines := strings.Split(os.Getenv("CAUSEWAY_ENGINE"), ",")
	o.Engine, o.Engines = engines[0], engines[:min(len(engines), max(o.Hosts, 1))]
	o.Plugin = o.Plugin || os.Getenv("CAUSEWAY_MANAGED") != ""
	o.Source = ".."
	o.CausewayArgs = append(o.CausewayArgs, "--log-level=debug")
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, lab: l, overhead: 50}
	if o.VTEP6 {
		c.overhead = 70
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.logTails()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// labName is the test's own. CAUSEWAY_LAB begins it where two checkouts are tested at once.
func labName(t *testing.T) string {
	return cmp.Or(os.Getenv("CAUSEWAY_LAB"), "t") + "-" + strings.ToLower(regexp.MustCompile(`[^A-Za-z0-9]+`).ReplaceAllString(t.Name(), "-"))
}

func binary(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: make build makes it", err)
	}
	return path
}

// logTails shows what the daemons said last.
func (c *cluster) logTails() {
	for _, machine := range c.lab.Machines() {
		for _, daemon := range machine.Services() {
			out, err := exec.Command("sh", "-c", `grep -v -e level=info -e level=debug "$0" | tail -n 20`, daemon.Log()).Output()
			c.Logf("%s of %s (%v):\n%s", daemon.Name(), machine.Name(), err, out)
		}
	}
}

// sub is the cluster for one capability.
func (c *cluster) sub(t *testing.T) *cluster {
	copied := *c
	copied.T = t
	return &copied
}

// host gives the n-th host, from 1.
func (c *cluster) host(n int) *host {
	return &host{Host: c.lab.Hosts()[n-1], c: c}
}

// machine gives a machine by name.
func (c *cluster) machine(name string) *lab.Machine {
	c.Helper()
	m, err := c.lab.Machine(name)
	if err != nil {
		c.Fatal(err)
	}
	return m
}

// network makes a network on h1, waits until every host has it, and removes it
// after the test. name must be the test's own.
func (c *cluster) network(name string, args ...string) {
	c.Helper()
	argv := []string{"network", "create", "-d", "causeway"}
	for _, option := range c.options {
		argv = append(argv, "-o", option)
	}
	c.host(1).docker(append(append(argv, args...), name)...)
	c.Cleanup(func() { c.removeNetwork(name) })
	c.everywhere(name)
}

func (c *cluster) everywhere(name string) {
	c.Helper()
	for n := range c.lab.Hosts() {
		h := c.host(n + 1)
		eventually(c.T, name+" is on "+h.Name(), func() error {
			_, err := h.try("docker", "network", "inspect", name)
			return err
		})
	}
}

func (c *cluster) removeNetwork(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, h := range c.lab.Hosts() {
		_, _ = h.Run(ctx, "docker", "network", "rm", name) // one of them removes it for all
	}
}

// host is one Docker host under test.
type host struct {
	*lab.Host
	c *cluster
}

// managed says that causeway runs as a managed plugin.
func (h *host) managed() bool {
	_, binary := h.Causeway.(*lab.Daemon)
	return !binary
}

// docker runs the client on the host and returns what it prints.
func (h *host) docker(args ...string) string {
	h.c.Helper()
	out, err := h.try(append([]string{"docker"}, args...)...)
	if err != nil {
		h.c.Fatal(err)
	}
	return out
}

// try runs a command on the host.
func (h *host) try(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.c.Context(), 2*time.Minute)
	defer cancel()
	out, err := h.Run(ctx, argv...)
	return strings.TrimSpace(out), err
}

// container is a running container.
type container struct {
	*host
	name string
}

// run starts a busybox that sleeps, and removes it after the test. It is killed when it is
// to stop: a container's first process ignores SIGTERM, and an engine that stops would wait
// ten seconds for it.
func (h *host) run(name string, args ...string) container {
	h.c.Helper()
	h.docker(append(append([]string{"run", "-d", "--stop-signal=KILL", "--name", name}, args...), "busybox", "sleep", "3600")...)
	h.c.Cleanup(func() { h.remove(name) })
	return container{h, name}
}

// remove takes a container away that may be there.
func (h *host) remove(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, _ = h.Run(ctx, "docker", "rm", "-f", name)
}

// exec runs a command in the container.
func (c container) exec(argv ...string) (string, error) {
	return c.try(append([]string{"docker", "exec", c.name}, argv...)...)
}

// must is exec for what has to succeed.
func (c container) must(argv ...string) string {
	c.c.Helper()
	out, err := c.exec(argv...)
	if err != nil {
		c.c.Fatal(err)
	}
	return out
}

// addr is the container's IPv4 address on a network.
func (c container) addr(network string) string {
	c.c.Helper()
	return c.inspect(fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network))
}

// addr6 is its IPv6 address there.
func (c container) addr6(network string) string {
	c.c.Helper()
	return c.inspect(fmt.Sprintf("{{(index .NetworkSettings.Networks %q).GlobalIPv6Address}}", network))
}

func (c container) mac(network string) string {
	c.c.Helper()
	return c.inspect(fmt.Sprintf("{{(index .NetworkSettings.Networks %q).MacAddress}}", network))
}

func (c container) inspect(format string) string {
	c.c.Helper()
	out := c.docker("inspect", "--format", format, c.name)
	if out == "" {
		c.c.Fatalf("%s on %s has no %s", c.name, c.Name(), format)
	}
	return out
}

// pid is that of the container's first process, which stands for its sandbox.
func (c container) pid() int {
	c.c.Helper()
	pid, err := strconv.Atoi(c.inspect("{{.State.Pid}}"))
	if err != nil {
		c.c.Fatal(err)
	}
	return pid
}

// pings fails the test unless three of three echoes come back.
func (c container) pings(addr string) {
	c.c.Helper()
	if out, err := c.exec("ping", "-c", "3", "-i", "0.1", "-W", "3", addr); err != nil || !strings.Contains(out, " 0% packet loss") {
		c.c.Fatalf("%s on %s cannot ping %s: %v\n%s", c.name, c.Name(), addr, err, out)
	}
}

// misses fails the test if an echo comes back.
func (c container) misses(addr string) {
	c.c.Helper()
	if out, err := c.exec("ping", "-c", "2", "-i", "0.2", "-W", "1", addr); err == nil {
		c.c.Fatalf("%s on %s reaches %s, which it should not:\n%s", c.name, c.Name(), addr, out)
	}
}

// eventually waits until check is content.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	eventuallyWithin(t, 30*time.Second, what, check)
}

func eventuallyWithin(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	await.Within(t, limit, what, check)
}

// loseHost kills a host's causeway and waits until the cluster knows.
func (c *cluster) loseHost(n int) {
	c.Helper()
	if err := c.host(n).Causeway.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.gone(n)
}

// gone waits until the host's lease has run out.
func (c *cluster) gone(n int) {
	c.Helper()
	eventually(c.T, c.host(n).Name()+" is known to be gone", func() error {
		_, err := c.host(1).try("sh", "-c", "causeway hosts | grep '"+c.host(n).Name()+".*not alive'")
		return err
	})
}
