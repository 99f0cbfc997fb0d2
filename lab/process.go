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

// process is a process beyond doubt: its pid alone may come to be another's.
type process struct {
	PID int `json:"pid"`
	// Start is in clock ticks after boot: field 22 of /proc/PID/stat, proc(5).
	Start uint64 `json:"start"`
}

func identify(pid int) (process, error) {
	start, _, err := readStat(pid)
	return process{PID: pid, Start: start}, err
}

func readStat(pid int) (start uint64, state string, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", err
	}
	return parseStat(string(stat))
}

// parseStat reads the start time and the state letter. The command's name, field
// 2, stands in brackets and may hold anything, brackets and blanks too.
func parseStat(stat string) (start uint64, state string, err error) {
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 20 {
		return 0, "", fmt.Errorf("cannot read process state %q", stat)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}

// alive is false for a zombie too.
func (p process) alive() bool {
	start, state, err := readStat(p.PID)
	return err == nil && start == p.Start && state != "Z" && state != "X"
}

// open gives a descriptor that stays with this process; ESRCH if it is gone.
func (p process) open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, err
	}
	if !p.alive() {
		_ = unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
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

// wait returns when the process has ended. A child of ours is reaped.
func (p process) wait(ctx context.Context) error {
	defer func() {
		// ECHILD where it is the child of another.
		_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil)
	}()
	fd, err := p.open()
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
		if n == 1 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", p.PID, err)
		}
	}
	return fmt.Errorf("process %d does not end: %w", p.PID, ctx.Err())
}
