package main

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/causeway-net/causeway/internal/plugin"
)

// systemd hears from causeway for as long as its socket answers, and no longer.
func TestWatchdogFollowsThePluginsSocket(t *testing.T) {
	dir := t.TempDir()
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	const period = 300 * time.Millisecond
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(period.Microseconds(), 10))
	next := func() string {
		t.Helper()
		message := make([]byte, 100)
		if err := systemd.SetReadDeadline(time.Now().Add(2 * period)); err != nil {
			t.Fatal(err)
		}
		n, err := systemd.Read(message)
		if err != nil {
			return ""
		}
		return string(message[:n])
	}

	null, _ := test.NewNullLogger()
	log := logrus.NewEntry(null)
	socket := filepath.Join(dir, "causeway.sock")
	listener, err := plugin.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, hang := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- plugin.NewServer(log).Serve(serving, listener) }()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- notifySystemd(ctx, socket, log) }()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Fatalf("systemd heard %q, want %q", got, want)
		}
	}
	hang()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	for range 2 { // one may have been under way
		if got := next(); got == "" {
			break
		}
	}
	if got := next(); got != "" {
		t.Errorf("after the socket's end systemd heard %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
