package test

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// session is a TCP connection that somebody has open: a byte goes to and fro all
// the time.
type session struct {
	stop chan struct{}
	done chan error
}

// session connects from one process's network namespace to an address of another's.
func (c *cluster) session(server int, addr string, client int) *session {
	c.Helper()
	var listener net.Listener
	err := inside(server, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	defer listener.Close()
	var conn net.Conn
	err = inside(client, func() (err error) {
		conn, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		c.Fatal(err)
	}
	s := &session{stop: make(chan struct{}), done: make(chan error, 1)}
	go echo(accepted)
	go func() { s.done <- errors.Join(s.chat(conn), conn.Close()) }()
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
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
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
