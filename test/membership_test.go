package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestRefusedHosts starts hosts that may not be in the cluster as they are: each
// says why, once, and is accepted as soon as that is changed.
func TestRefusedHosts(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Store: lab.StoreEtcd})
	h := c.host(2)
	if err := h.Causeway.Stop(c.Context()); err != nil {
		c.Fatal(err)
	}
	h.docker("version") // the engine itself stays
	c.must(h, "ip", "addr", "add", "10.99.0.1/32", "dev", "lo")
	for _, test := range []struct{ name, args, want string }{
		{"VTEP of another host", "--host-name=h3 --vtep=10.99.0.1", "VTEP 10.99.0.1 is in use by host h1: give --vtep"},
		{"VTEP of the other family", "--host-name=h3 --vtep=fd99::2", "VTEP fd99::2 is an IPv6 address and that of host h1 (10.99.0.1) is not: give all hosts a --vtep of one family"},
		{"name of another host", "--host-name=h1", "host name h1 is in use by the host with VTEP 10.99.0.1: give --host-name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.sub(t)
			out := c.serveFor(h, test.args, test.want)
			if n := strings.Count(out, test.want); n != 1 {
				t.Errorf("it says %d times: %s\n%s", n, test.want, out)
			}
			if strings.Contains(out, "panic") {
				t.Error(out)
			}
		})
	}
	t.Run("another name then", func(t *testing.T) {
		c := c.sub(t)
		c.serveFor(h, "--host-name=h3", "")
		if _, listed := c.listed("h3"); !listed {
			t.Error("the host that was refused under another's name is not in the cluster under its own")
		}
	})
	t.Run("read-only role", func(t *testing.T) {
		c := c.sub(t)
		c.readOnlyUser(func() {
			c.serveFor(h, "--host-name=h3 --store-user=reader --store-password=secret",
				"this host's record hosts/h3 cannot be written, and it is not in the cluster until it is")
		})
	})
}

// serveFor runs a second causeway on a host until it says want, and returns what it said.
func (c *cluster) serveFor(h *host, args, want string) string {
	c.Helper()
	script := fmt.Sprintf(`
		causeway serve --store=http://10.99.0.253:2379 --store-insecure --docker-socket=none --data-dir=/run/docker/second \
			--socket=/run/docker/second.sock --agent-socket=/run/docker/second-agent.sock %s >/run/docker/second.log 2>&1 &
		for i in $(seq 100); do
			causeway status --agent-socket=/run/docker/second-agent.sock >/run/docker/second.status 2>&1
			grep -qF %q /run/docker/second.status && grep -q "^store: *answers" /run/docker/second.status && break
			sleep 0.1
		done
		sleep 3
		kill $!; wait $!
		cat /run/docker/second.log
		echo ---
		cat /run/docker/second.status`, args, want)
	out, err := h.try("sh", "-c", script)
	if err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
	said, status, _ := strings.Cut(out, "---\n")
	if !strings.Contains(status, want) {
		c.Errorf("status lacks %q:\n%s\n%s", want, status, said)
	}
	return said
}

// listed looks for a host in the cluster.
func (c *cluster) listed(name string) (found string, ok bool) {
	c.Helper()
	out, err := c.host(1).try("causeway", "hosts")
	if err != nil {
		c.Fatal(err)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, name+" ") {
			return line, true
		}
	}
	return out, false
}

func (c *cluster) must(h *host, command ...string) {
	c.Helper()
	if out, err := h.try(command...); err != nil {
		c.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// readOnlyUser turns the store's users on while do runs: reader may read only.
func (c *cluster) readOnlyUser(do func()) {
	c.Helper()
	c.etcd("auth/user/add", "", `{"name":"root","password":"secret"}`)
	c.etcd("auth/user/add", "", `{"name":"reader","password":"secret"}`)
	c.etcd("auth/role/add", "", `{"name":"root"}`)
	c.etcd("auth/role/add", "", `{"name":"reading"}`)
	c.etcd("auth/role/grant", "", `{"name":"reading","perm":{"permType":"READ","key":"AA==","range_end":"AA=="}}`)
	c.etcd("auth/user/grant", "", `{"user":"root","role":"root"}`)
	c.etcd("auth/user/grant", "", `{"user":"reader","role":"reading"}`)
	c.etcd("auth/enable", "", `{}`)
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(c.etcd("auth/authenticate", "", `{"name":"root","password":"secret"}`)), &token); err != nil {
		c.Fatal(err)
	}
	defer c.etcd("auth/disable", token.Token, `{}`)
	do()
}

// etcd sends a request to the lab's etcd, past causeway.
func (c *cluster) etcd(call, token, body string) string {
	c.Helper()
	command := []string{"busybox", "wget", "-q", "-O", "-", "--post-data", body, "http://10.99.0.253:2379/v3/" + call}
	if token != "" {
		command = append(command, "--header=Authorization: "+token)
	}
	out, err := c.host(1).try(command...)
	if err != nil {
		c.Fatalf("%s: %v\n%s", call, err, out)
	}
	return out
}
