package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/plugin"
)

// The socket has Go's profiles only where it was asked for them.
func TestProfiles(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	for profiles, want := range map[bool]int{true: http.StatusOK, false: http.StatusNotFound} {
		socket := filepath.Join(t.TempDir(), "agent.sock")
		listener, err := plugin.Listen(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- NewServer(Config{Profiles: profiles, Log: logrus.NewEntry(logger)}).Serve(ctx, listener)
		}()
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}}}
		for _, path := range []string{"heap", "cmdline"} {
			response, err := client.Get("http://agent/debug/pprof/" + path)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("with profiles %v, %s answers %s", profiles, path, response.Status)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
