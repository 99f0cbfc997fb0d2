package test

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// session is a TCP connection that an administrator has open: a byte goes to
// and fro all the time.
type session struct {
	stop chan struct{}
	done chan error
}

// session connects from plain to an address of h1.
func (c *cluster) session(addr string) *session {
	c.Helper()
	var listener net.Listener
	err := inside(c.host(1).PID(), func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer listener.Close()
	var client net.Conn
	err = inside(c.machine("plain").PID(), func() (err error) {
		client, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		c.Fatal(err)
	}
	s := &session{stop: make(chan struct{}), done: make(chan error, 1)}
	go echo(server)
	go func() { s.done <- errors.Join(s.chat(client), client.Close()) }()
	return s
}

// echo sends each byte back until the connection ends.
func echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 1)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
		if _, err := conn.Write(buf); err != nil {
			return
		}
	}
}

func (s *session) chat(conn net.Conn) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	buf := make([]byte, 1)
	for n := 0; ; n++ {
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(buf); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		if _, err := conn.Read(buf); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
		select {
		case <-s.stop:
			return nil
		case <-tick.C:
		}
	}
}

// close ends the session and says whether it held.
func (s *session) close() error {
	close(s.stop)
	return <-s.done
}
