package plugin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type greeting struct{ Name string }

// serve runs a server with some methods, and gives a client and the socket's path.
func serve(t *testing.T) (*http.Client, string) {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(t.Output())
	server := NewServer(logrus.NewEntry(logger), "NetworkDriver", "IpamDriver")
	Handle(server, "/Test.Greet", func(_ context.Context, g *greeting) (*greeting, error) {
		switch g.Name {
		case "":
			return nil, errors.New("nobody to greet")
		case "panic":
			panic("out of words")
		}
		return &greeting{"hello " + g.Name}, nil
	})
	Handle(server, "/Test.Bare", func(context.Context, *struct{}) (*greeting, error) { return &greeting{"bare"}, nil })
	path := filepath.Join(t.TempDir(), "made", "test.sock")
	listener, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the socket is left behind")
		}
	})
	return &http.Client{Transport: transport}, path
}

func TestServer(t *testing.T) {
	client, _ := serve(t)
	for name, test := range map[string]struct {
		path, body string
		status     int
		answer     string
	}{
		"activate":       {"/Plugin.Activate", "", 200, `{"Implements":["NetworkDriver","IpamDriver"]}`},
		"answer":         {"/Test.Greet", `{"Name":"Ada"}`, 200, `{"Name":"hello Ada"}`},
		"unknown fields": {"/Test.Greet", `{"Name":"Ada","New":1}`, 200, `{"Name":"hello Ada"}`},
		"no arguments":   {"/Test.Bare", "", 200, `{"Name":"bare"}`},
		"refused":        {"/Test.Greet", "{}", 500, `{"Err":"nobody to greet"}`},
		"empty body":     {"/Test.Greet", "", 400, `{"Err":"Test.Greet: the request has no body: the engine lost it when it asked again; try once more"}`},
		"malformed":      {"/Test.Greet", `{"Name":`, 400, `{"Err":"Test.Greet: the request is not valid JSON: unexpected EOF"}`},
		"wrong type":     {"/Test.Greet", `{"Name":[]}`, 400, `not valid JSON`},
		"oversized":      {"/Test.Greet", `{"Name":"` + strings.Repeat("x", 1<<20) + `"}`, 400, `{"Err":"Test.Greet: the request is larger than 1048576 bytes"}`},
		"unknown method": {"/Test.Sing", "{}", 404, `{"Err":"/Test.Sing is not a method of causeway"}`},
		"panic":          {"/Test.Greet", `{"Name":"panic"}`, 500, "a fault in causeway: out of words"},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := client.Post("http://plugin"+test.path, "", bytes.NewReader([]byte(test.body)))
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || !strings.Contains(string(body), test.answer) {
				t.Errorf("got %d %s, want %d %s", response.StatusCode, body, test.status, test.answer)
			}
		})
	}
}

func TestListenRefusesASocketInUse(t *testing.T) {
	_, path := serve(t)
	if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another causeway answers on it") {
		t.Errorf("got %v", err)
	}
}

func TestListenReplacesASocketLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	listener, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
