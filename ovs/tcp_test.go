package ovs

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/planetest"
)

const megabyte = 1 << 20

// transfer sends a megabyte by TCP and gives how much arrived within five
// seconds. Where checksums are left to a device that has none, it is nothing.
func transfer(t *testing.T, from, to *planetest.Container, addr netip.Addr) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var server net.Listener
	var client net.Conn
	planetest.Within(t, to.NS(), func() (err error) {
		server, err = new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(addr, 5001).String())
		return err
	})
	defer server.Close()
	planetest.Within(t, from.NS(), func() (err error) {
		client, err = new(net.Dialer).DialContext(ctx, "tcp", server.Addr().String())
		return err
	})
	defer client.Close()
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := errors.Join(conn.SetDeadline(deadline), client.SetDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, megabyte))
		sent <- errors.Join(err, client.(*net.TCPConn).CloseWrite())
	}()
	n, _ := io.Copy(io.Discard, conn)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	return n
}
