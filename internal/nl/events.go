package nl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Events is a socket on which the kernel tells what changes in one network
// namespace. It is for one reader at a time; Close may be called from anywhere.
type Events struct {
	file   *os.File
	raw    syscall.RawConn
	buffer []byte
	closed atomic.Bool
}

// ErrOverrun says that changes came faster than they were read: some are lost.
var ErrOverrun = errors.New("the kernel's notifications were lost")

// Subscribe opens a socket for the groups (RTNLGRP_*) of the Handle's namespace.
func (h *Handle) Subscribe(groups ...uint) (*Events, error) {
	var fd int
	err := Do(h.ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a socket for the kernel's notifications: %w", err)
	}
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, group := range groups {
		address.Groups |= 1 << (group - 1)
	}
	const room, message = 1 << 20, 1 << 14 // a notification is a page or less
	file := os.NewFile(uintptr(fd), "netlink")
	raw, err := file.SyscallConn()
	if err == nil {
		// Without CAP_NET_ADMIN in the first user namespace the room stays as it is.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
		err = unix.Bind(fd, address)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to the kernel's notifications: %w", err), file.Close())
	}
	return &Events{file: file, raw: raw, buffer: make([]byte, message)}, nil
}

// Close ends the reads that wait, with [os.ErrClosed].
func (e *Events) Close() error {
	e.closed.Store(true)
	return e.file.Close()
}

// Read waits for changes until the deadline, and then fails with
// [os.ErrDeadlineExceeded]; the zero Time is none.
func (e *Events) Read(deadline time.Time) ([]syscall.NetlinkMessage, error) {
	return e.receive(deadline, true)
}

// Queued gives the changes that wait to be read; none when there are none.
func (e *Events) Queued() ([]syscall.NetlinkMessage, error) {
	return e.receive(time.Time{}, false)
}

func (e *Events) receive(deadline time.Time, wait bool) ([]syscall.NetlinkMessage, error) {
	var n int
	var from unix.Sockaddr
	var failed error
	err := e.file.SetReadDeadline(deadline)
	if err == nil {
		err = e.raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), e.buffer, unix.MSG_TRUNC)
			return !wait || !errors.Is(failed, unix.EAGAIN)
		})
	}
	kernel, ok := from.(*unix.SockaddrNetlink)
	switch {
	case e.closed.Load():
		return nil, os.ErrClosed
	case err != nil:
		return nil, err
	case errors.Is(failed, unix.ENOBUFS), n > len(e.buffer):
		return nil, ErrOverrun
	case errors.Is(failed, unix.EAGAIN), errors.Is(failed, unix.EINTR):
		return nil, nil
	case failed != nil:
		return nil, failed
	case !ok || kernel.Pid != 0:
		return nil, nil // from a program
	}
	return syscall.ParseNetlinkMessage(slices.Clone(e.buffer[:n]))
}
