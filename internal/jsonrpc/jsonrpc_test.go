package jsonrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial connects to a server that says what it is told, and gives what it heard.
func dial(t *testing.T, ctx context.Context, says string) (*Conn, <-chan string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan string, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, says)
			all, _ := io.ReadAll(conn)
			heard <- string(all)
			_ = conn.Close()
		}
	}()
	conn, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); listener.Close() })
	return conn, heard
}

func TestACallReadsPastWhatComesInBetween(t *testing.T) {
	conn, heard := dial(t, t.Context(), `{"id":"echo","method":"echo","params":["x"]}{"id":null,"method":"update","params":[7]}`+
		`{"id":9,"result":"another's","error":null}{"id":1,"result":"fine","error":null}{"id":2,"result":null,"error":"no"}`)
	var told []string
	conn.Notify = func(method string, params json.RawMessage) error {
		told = append(told, method+string(params))
		return nil
	}
	var result string
	if err := conn.Call(time.Minute, "show", []any{"br"}, &result); err != nil || result != "fine" {
		t.Errorf("got %q, %v", result, err)
	}
	if err := conn.Call(time.Minute, "again", nil, nil); err == nil || err.Error() != `again: "no"` {
		t.Errorf("got %v", err)
	}
	if strings.Join(told, " ") != "update[7]" {
		t.Errorf("told %v", told)
	}
	conn.Close()
	want := `{"id":1,"method":"show","params":["br"]}{"id":"echo","result":["x"],"error":null}{"id":2,"method":"again","params":[]}`
	if got := <-heard; got != want {
		t.Errorf("the server heard %s", got)
	}
}

func TestCallsEndWithTheirTimeout(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn, _ := dial(t, ctx, "")
	if err := conn.Call(time.Millisecond, "show", nil, nil); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ended := make(chan error)
	go func() { ended <- conn.Wait() }()
	cancel()
	if err := <-ended; err == nil {
		t.Error("the wait ended without an error")
	}
}
