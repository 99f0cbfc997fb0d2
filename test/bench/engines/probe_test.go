package engines

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// here is this process's own place.
func here(t *testing.T) place {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it enters a network namespace")
	}
	return place{pid: os.Getpid(), addr: netip.MustParseAddr("127.0.0.1")}
}

func TestProbeTellsWhenItWasAnswered(t *testing.T) {
	p, before := here(t), time.Now()
	end, err := p.echo(17002)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	line, err := Probe(t.Context(), "127.0.0.1:17002")
	if err != nil || len(strings.Fields(line)) != 2 {
		t.Fatalf("got %q, %v", line, err)
	}
	answered, err := Reach(t.Context(), "127.0.0.1:17002")
	if err != nil || answered.Before(before) {
		t.Errorf("answered at %v, %v", answered, err)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	p := here(t)
	end, err := p.acceptEcho(t.Context(), 17001)
	if err != nil {
		t.Fatal(err)
	}
	count, took, err := p.connect(t.Context(), p.addr, 17001, 50*time.Millisecond)
	if err != nil || count == 0 || took < 50*time.Millisecond {
		t.Errorf("%d connections in %v, %v", count, took, err)
	}
	if _, err := p.acceptEcho(t.Context(), 17001); err == nil {
		t.Error("two listen on one port")
	}
	end()
	if _, _, err := p.connect(t.Context(), p.addr, 17003, 50*time.Millisecond); err == nil {
		t.Error("nobody listens, and that is no error")
	}
}

func TestServerThatEndsIsToldWithWhatItSaid(t *testing.T) {
	p := here(t)
	_, err := p.serve(t.Context(), "ready", "sh", "-c", "echo no disk; exit 1")
	if err == nil || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("got %v", err)
	}
	end, err := p.serve(t.Context(), "ready", "sh", "-c", "echo ready; sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	end()
}

func TestCallsAreReadFromTheLog(t *testing.T) {
	got, err := parseCalls([]byte(`time="2026-11-27T13:00:00Z" level=debug msg="call done" call=NetworkDriver.CreateEndpoint took=1.25ms
time="2026-11-27T13:00:00Z" level=debug msg="call done" call=NetworkDriver.EndpointOperInfo took=0s
time="2026-11-27T13:00:00Z" level=debug msg="call done" call=IpamDriver.RequestAddress took="80µs"
`))
	if err != nil || len(got) != 2 || got[0] != (took{"CreateEndpoint", 1.25}) || got[1].ms != 0.08 {
		t.Errorf("got %v, %v", got, err)
	}
}
