package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// TestBackup loses the store after a backup and restores it: networks, and the
// containers that were started before and since, keep running and keep their places.
func TestBackup(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2})
	if c.host(1).managed() {
		t.Skip("the folder of a managed plugin is found by hand")
	}
	c.network("saved", "--subnet=10.62.0.0/24")
	first, second := c.host(1).run("saved1", "--net=saved"), c.host(2).run("saved2", "--net=saved")
	if out, err := c.host(2).try("causeway", "backup", "/run/snapshot"); err != nil || !strings.Contains(out, "has the records of the cluster") {
		t.Fatal(out, err)
	}
	since := c.host(2).run("saved3", "--net=saved")
	since.pings(first.addr("saved"))
	if out, err := c.host(1).try("causeway", "restore", "/run/none"); err == nil || !strings.Contains(err.Error(), "is in use by another causeway") {
		t.Errorf("beside a running causeway: %v, %v", out, err)
	}

	stop := c.steadyFrom(first, second.addr("saved"))
	if err := c.host(1).Causeway.Kill(c.Context()); err != nil {
		t.Fatal(err)
	}
	snapshot, err := c.host(2).try("base64", "-w0", "/run/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.host(1).try("sh", "-c", "rm -rf /var/lib/causeway/etcd && echo "+snapshot+" | base64 -d >/run/snapshot"); err != nil {
		t.Fatal(err)
	}
	if out, err := c.host(1).try("causeway", "restore", "/run/snapshot"); err != nil {
		t.Fatal(out, err)
	}
	for n := range 2 { // a unit's Restart=always does it on h2
		if err := c.host(n + 1).Causeway.Restart(c.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"saved1", "saved2", "saved3"} {
		eventually(t, name+" has its place", func() error { return c.host(1).shows(name, "endpoints", "saved") })
	}
	c.host(1).run("saved4", "--net=saved").pings(since.addr("saved"))
	since.pings(first.addr("saved"))
	stop()
	for n := range 2 {
		eventually(t, fmt.Sprint("no troubles on h", n+1), func() error { return c.host(n+1).shows("no troubles", "status") })
	}
}
