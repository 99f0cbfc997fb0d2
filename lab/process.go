package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// process identifies a process for good: its pid alone may be reused.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks after boot: field 22 of /proc/PID/stat, proc(5).
	Start uint64 `json:"start"`
}

func identify(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	start, err := parseStart(string(stat))
	return process{PID: pid, Start: start}, err
}

// parseStart reads the start time. The command's name, field 2, stands in
// brackets and may hold anything, brackets and blanks too.
func parseStart(stat string) (uint64, error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("cannot read process state %q", stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// open gives a descriptor that stays with this process, pidfd_open(2); ESRCH if
// it is gone.
func (p process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, err
	}
	if now, err := identify(p.PID); err != nil || now != p {
		_ = unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// ended waits some milliseconds for the end. A process has ended when all its
// threads have, even if a zombie is left.
func ended(fd int, ms int) (bool, error) {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n == 1, err
}

func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	fd, err := p.open()
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	over, err := ended(fd, 0)
	return err == nil && !over
}

// pending says whether a signal waits for the process, as while it is stopped: ShdPnd of
// /proc/PID/status, proc(5).
func (p process) pending(sig syscall.Signal) (bool, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(status)) {
		if mask, found := strings.CutPrefix(line, "ShdPnd:"); found {
			signals, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			return signals&(1<<(sig-1)) != 0, err
		}
	}
	return false, fmt.Errorf("process %d has no ShdPnd", p.PID)
}

// signal does nothing if the process is gone.
func (p process) signal(sig syscall.Signal) error {
	fd, err := p.open()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// reap takes a zombie away that we started ourselves; where another did (ECHILD),
// that other does it.
func (p process) reap() { _, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil) }

// wait returns when the process has ended; it may be a zombie still.
func (p process) wait(ctx context.Context) error {
	fd, err := p.open()
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", p.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	for ctx.Err() == nil {
		if over, err := ended(fd, 100); over || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end: %w", p.PID, ctx.Err())
}
