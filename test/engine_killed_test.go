package test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/lab"
)

// TestEngineKilledDuringStart kills an engine in the moment in which a container's
// link has left the host's namespace. What the runtime leaves behind keeps the
// link, so that the endpoint looks alive; the engine has forgotten it and gives its
// address out again.
func TestEngineKilledDuringStart(t *testing.T) {
	c := up(t, lab.Options{Hosts: 1})
	h := c.host(1)
	c.network("shaken", "--subnet=192.168.70.0/24")
	ended := make(chan struct{})
	left := h.linkLeft()
	go func() {
		defer close(ended)
		_, _ = h.try("docker", "run", "-d", "--name=victim", "--net=shaken", "busybox", "sleep", "3600")
	}()
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Fatal("no link has left the host")
	}
	if err := syscall.Kill(h.Docker.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := h.Docker.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-ended
	endpoints, err := h.try("causeway", "endpoints")
	t.Logf("the killed engine left %s, %v", endpoints, err)
	if err := h.Docker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		h.run(fmt.Sprint("after", n), "--net=shaken")
	}
}

// linkLeft is closed when the container's end of a pair has left the host's namespace.
func (h *host) linkLeft() <-chan struct{} {
	h.c.Helper()
	ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", h.PID()))
	if err != nil {
		h.c.Fatal(err)
	}
	updates, done, left := make(chan netlink.LinkUpdate, 1000), make(chan struct{}), make(chan struct{})
	if err := netlink.LinkSubscribeAt(ns, updates, done); err != nil {
		h.c.Fatal(err)
	}
	h.c.Cleanup(func() { close(done); _ = ns.Close() })
	go func() {
		defer close(left)
		for update := range updates {
			if update.Header.Type == syscall.RTM_DELLINK && strings.HasPrefix(update.Attrs().Name, "cwc") {
				return
			}
		}
	}()
	return left
}
