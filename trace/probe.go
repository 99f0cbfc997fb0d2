package trace

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/echo"
	"github.com/causeway-net/causeway/internal/nl"
)

const (
	echoes     = 3
	echoEvery  = 400 * time.Millisecond
	connecting = 1300 * time.Millisecond // TCP sends a second SYN after one second
)

// outcome is what came of a probe.
type outcome int

const (
	silent outcome = iota
	answered
	refused // by a TCP reset
)

// probe sends the flow's packets from a container's namespace.
func (f Flow) probe(ctx context.Context, ns netns.NsHandle) (outcome, error) {
	if f.Port != 0 {
		return f.connect(ctx, ns)
	}
	came, err := echo.Ask(ctx, ns, echo.Request{To: f.To, From: f.From, ID: f.Mark, Times: echoes, Every: echoEvery})
	if came {
		return answered, nil
	}
	return silent, err
}

// connect opens a TCP connection, and closes it.
func (f Flow) connect(ctx context.Context, ns netns.NsHandle) (outcome, error) {
	dialer := net.Dialer{Timeout: connecting, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.From, f.Mark))}
	err := nl.Do(ns, func() error {
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(f.To, f.Port).String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
	timeout, isNet := net.Error(nil), false
	if isNet = errors.As(err, &timeout); isNet {
		isNet = timeout.Timeout()
	}
	switch {
	case err == nil:
		return answered, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return refused, nil
	case isNet, echo.Unreachable(err):
		return silent, ctx.Err()
	}
	return silent, err
}
