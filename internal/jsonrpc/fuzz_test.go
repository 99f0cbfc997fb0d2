package jsonrpc

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"
)

// Whatever a server says, a call ends in an answer or an error.
func FuzzCall(f *testing.F) {
	f.Add([]byte(`{"id":"echo","method":"echo","params":["x"]}{"id":1,"result":"fine","error":null}`))
	f.Add([]byte(`{"id":null,"method":"update","params":[7]}{"id":1,"result":null,"error":{"a":[]}}`))
	f.Add([]byte(`{"id":7,"method":"steal","params":[]}`))
	f.Fuzz(func(t *testing.T, says []byte) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		go func() {
			_, _ = theirs.Write(says)
			_ = theirs.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		conn := &Conn{conn: ours, read: json.NewDecoder(ours), Notify: func(string, json.RawMessage) error { return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			var result any
			ended <- conn.Call(0, "show", nil, &result)
			for conn.Wait() == nil {
			}
			close(ended)
		}()
		for range 2 {
			select {
			case <-ended:
			case <-ctx.Done():
				t.Fatalf("%q keeps a call", says)
			}
		}
	})
}
