package test

import (
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

// inside runs do in the network namespace of a process. Sockets that it opens
// stay there, and can be used from anywhere.
func inside(pid int, do func() error) error {
	ns, err := netns.GetFromPath(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	return nl.Do(ns, do)
}

// listen opens a listener in a container.
func (c *cluster) listen(in container, network string) (listener net.Listener) {
	c.Helper()
	err := inside(in.pid(), func() (err error) {
		listener, err = net.Listen(network, ":0")
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	return listener
}

// dial connects from a container.
func (c *cluster) dial(from container, network, addr string) (conn net.Conn, err error) {
	err = inside(from.pid(), func() (err error) {
		conn, err = net.DialTimeout(network, addr, 10*time.Second)
		return err
	})
	return conn, err
}
