package engines

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// inside calls f in the place's network namespace.
func (p place) inside(f func() error) error {
	ns, err := netns.GetFromPid(p.pid)
	if err != nil {
		return fmt.Errorf("network namespace of process %d: %w", p.pid, err)
	}
	defer ns.Close()
	return nl.Do(ns, f)
}

// echo answers UDP packets with themselves, and gives what ends it.
func (p place) echo(port int) (func(), error) {
	var conn *net.UDPConn
	err := p.inside(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from) // one that is lost is sent again
		}
	}()
	return func() { conn.Close() }, nil
}

// Reach sends packets to an echo, one each millisecond, until one comes back. It gives
// when that was.
func Reach(ctx context.Context, address string) (time.Time, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp4", address)
	if err != nil {
		return time.Time{}, err
	}
	return firstAnswer(ctx, conn)
}

func firstAnswer(ctx context.Context, conn net.Conn) (time.Time, error) {
	defer conn.Close()
	buf := make([]byte, 16)
	for ctx.Err() == nil {
		_, _ = conn.Write([]byte("x")) // refused while the way is not there yet
		if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return time.Time{}, err
		}
		if _, err := conn.Read(buf); err == nil {
			return time.Now(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%s has not answered: %w", conn.RemoteAddr(), ctx.Err())
}

// acceptEcho takes connections one after the other and sends back one byte on each. It
// blocks in the kernel, not in Go's scheduler, so that the network's part shows.
func (p place) acceptEcho(ctx context.Context, port int) (func(), error) {
	ready := make(chan error, 1)
	var listener int
	go func() {
		err := p.inside(func() error {
			var err error
			if listener, err = listenTCP(port); err != nil {
				return err
			}
			ready <- nil
			serveBytes(listener)
			return nil
		})
		if err != nil {
			ready <- err
		}
	}()
	select {
	case err := <-ready:
		return func() { _ = unix.Shutdown(listener, unix.SHUT_RDWR) }, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func listenTCP(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port}),
		unix.Listen(fd, 128),
	); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("listen on port %d: %w", port, err)
	}
	return fd, nil
}

// serveBytes returns when the listener is shut down.
func serveBytes(listener int) {
	defer unix.Close(listener)
	buf := make([]byte, 1)
	for {
		fd, err := again(func() (int, error) {
			fd, _, err := unix.Accept(listener)
			return fd, err
		})
		if err != nil {
			return
		}
		if n, err := unix.Read(fd, buf); err == nil && n == 1 {
			_, _ = unix.Write(fd, buf) // the client tells what fails
			_, _ = unix.Read(fd, buf)  // until it closes
		}
		_ = unix.Close(fd)
	}
}

// connect opens connections for a time, and gives how many there were.
func (p place) connect(ctx context.Context, to netip.Addr, port int, period time.Duration) (count int, took time.Duration, err error) {
	err = p.inside(func() error {
		began := time.Now()
		for took < period && ctx.Err() == nil {
			if err := oneConnection(to, port); err != nil {
				return fmt.Errorf("connection %d to %s: %w", count+1, to, err)
			}
			count++
			took = time.Since(began)
		}
		return ctx.Err()
	})
	return count, took, err
}

// oneConnection ends with a reset, so that no port waits for its next use.
func oneConnection(to netip.Addr, port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := []byte{1}
	if err := errors.Join(
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 5}),
	); err != nil {
		return err
	}
	if err := connectTCP(fd, &unix.SockaddrInet4{Port: port, Addr: to.As4()}); err != nil {
		return err
	}
	if _, err := again(func() (int, error) { return unix.Write(fd, buf) }); err != nil {
		return err
	}
	n, err := again(func() (int, error) { return unix.Read(fd, buf) })
	if err == nil && n == 0 {
		err = errors.New("it was closed")
	}
	return err
}

// connectTCP goes on where a signal of Go's scheduler breaks in: a socket with timeouts is
// not restarted by the kernel, signal(7).
func connectTCP(fd int, to unix.Sockaddr) error {
	err := unix.Connect(fd, to)
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	if n, err := again(func() (int, error) { return unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 5000) }); n == 0 {
		return errors.Join(err, errors.New("it was not answered within 5 s"))
	}
	failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && failed != 0 {
		err = unix.Errno(failed)
	}
	return err
}

func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
