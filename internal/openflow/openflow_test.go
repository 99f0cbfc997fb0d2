package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve is a switch that greets, answers echoes, and then says the messages.
func serve(t *testing.T, messages ...[]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		c := &Conn{conn: conn, read: bufio.NewReader(conn)}
		_ = c.send(typeHello, nil)
		for {
			kind, id, _, err := c.receive()
			if err != nil {
				return
			}
			if kind == typeEchoRequest {
				_ = c.write(typeEchoReply, id, nil)
				for _, message := range messages {
					_, _ = conn.Write(message)
				}
				messages = nil
			}
		}
	}()
	return path
}

func message(kind byte, body []byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{version, kind}, uint16(headerLength+len(body)))
	return append(binary.BigEndian.AppendUint32(head, 0), body...)
}

// update is a flow update with an empty match.
func update(event uint16, cookie uint64) []byte {
	text := binary.BigEndian.AppendUint16(nil, 32)
	text = append(binary.BigEndian.AppendUint16(text, event), make([]byte, 12)...)
	text = binary.BigEndian.AppendUint64(text, cookie)
	return append(text, 0, 1, 0, 4, 0, 0, 0, 0)
}

func TestChangesAreHandedOver(t *testing.T) {
	monitor := []byte{0, multipartFlowMonitor, 0, 0, 0, 0, 0, 0}
	paused := []byte{0, 8, 0, 5, 0, 0, 0, 0}
	group := message(15, []byte{0, 2, 0, 0, 0, 0, 0, 9})
	path := serve(t,
		message(typeMultipartReply, slices.Concat(monitor, update(1, 5), update(2, 6), update(3, 7), paused)),
		message(typeRequestForward, group), message(typeEchoRequest, nil))
	conn, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got []string
	conn.Changed = func(c Change) { got = append(got, fmt.Sprint(c.Kind, c.Cookie, c.Group)) }
	if err := conn.Sync(0); err != nil {
		t.Fatal(err)
	}
	want := "0 5 0,1 6 0,2 7 0,4 0 0,3 0 9"
	if strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestTheConnectionEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := Dial(ctx, serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ended := make(chan error)
	go func() { ended <- conn.Wait() }()
	cancel()
	if err := <-ended; err == nil {
		t.Error("Wait ended without an error")
	}
}

func TestARefusalIsAnError(t *testing.T) {
	conn, err := Dial(t.Context(), serve(t, message(typeError, []byte{0, 1, 0, 2})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Wait(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

// What a switch says, whatever it is, ends in a change or an error.
func FuzzUpdates(f *testing.F) {
	f.Add(append([]byte{0, multipartFlowMonitor, 0, 0, 0, 0, 0, 0}, update(1, 5)...), byte(typeMultipartReply))
	f.Add([]byte{0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, byte(typeRequestForward))
	f.Fuzz(func(t *testing.T, body []byte, kind byte) {
		c := &Conn{Changed: func(Change) {}}
		if kind != typeEchoRequest {
			_ = c.handle(kind, 0, body)
		}
	})
}
