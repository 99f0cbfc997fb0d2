// Package jsonrpc is a client of JSON-RPC 1.0 on unix sockets, as Open vSwitch's
// daemons speak it: the database's protocol (RFC 7047 §4) and the one of
// ovs-appctl.
//
// A call's path: [Conn.Call] writes the request and reads until its reply; the
// notifications that come in between are handed to Notify, and the server's own
// echo requests are answered.
package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Conn is one connection. It is for one goroutine.
type Conn struct {
	// Notify gets what the server says unasked; nil drops it.
	Notify func(method string, params json.RawMessage) error

	conn net.Conn
	read *json.Decoder
	last int
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
}

// Dial connects to the unix socket at path. The connection ends with ctx.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return &Conn{conn: stopped{conn, stop}, read: json.NewDecoder(conn)}, nil
}

// stopped is a connection whose Close also forgets the context's end.
type stopped struct {
	net.Conn
	stop func() bool
}

func (s stopped) Close() error {
	s.stop()
	return s.Conn.Close()
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Call sends a request and reads its reply into result, which may be nil. Within
// limit the reply must be there; zero waits as long as the connection lasts.
func (c *Conn) Call(limit time.Duration, method string, params []any, result any) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if params == nil {
		params = []any{}
	}
	encoded, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	c.last++
	id := json.RawMessage(fmt.Sprint(c.last))
	if err := c.send(message{ID: id, Method: method, Params: encoded}); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	for {
		got, err := c.next()
		if err != nil {
			return fmt.Errorf("%s: %w", method, err)
		}
		if got.Method != "" || string(got.ID) != string(id) {
			continue
		}
		if present(got.Error) {
			return fmt.Errorf("%s: %s", method, got.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(got.Result, result)
	}
}

// Wait reads one message that nobody asked for; it waits as long as the
// connection lasts.
func (c *Conn) Wait() error {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	_, err := c.next()
	return err
}

// next reads one message, and deals with it unless it is a reply.
func (c *Conn) next() (message, error) {
	var got message
	if err := c.read.Decode(&got); err != nil {
		return got, err
	}
	switch {
	case got.Method == "echo":
		return got, c.send(message{ID: got.ID, Result: got.Params, Error: json.RawMessage("null")})
	case got.Method != "" && present(got.ID):
		return got, errors.New("the server asks for " + got.Method)
	case got.Method != "" && c.Notify != nil:
		return got, c.Notify(got.Method, got.Params)
	}
	return got, nil
}

func (c *Conn) send(m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = c.conn.Write(text)
	return err
}

func present(value json.RawMessage) bool { return len(value) > 0 && string(value) != "null" }
