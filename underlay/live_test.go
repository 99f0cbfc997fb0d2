package underlay

import (
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// session is a TCP connection from the plain machine to the host, as an
// administrator's is: a byte goes to and fro all the time.
type session struct {
	rounds  atomic.Int64
	longest atomic.Int64 // ns that a byte took to come back
	stop    chan struct{}
	done    chan error
}

func (l *lan) session(addr string) *session {
	l.t.Helper()
	var listener net.Listener
	err := inNamespace(l.host.ns, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	var client net.Conn
	err = inNamespace(l.plain.ns, func() (err error) {
		client, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	_ = listener.Close()
	s := &session{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		buf := make([]byte, 1)
		for {
			if _, err := server.Read(buf); err != nil {
				_ = server.Close()
				return
			}
			_, _ = server.Write(buf)
		}
	}()
	go s.chat(client)
	return s
}

func (s *session) chat(conn net.Conn) {
	defer conn.Close()
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for {
		select {
		case <-s.stop:
			s.done <- nil
			return
		case <-pause.C:
		}
		start := time.Now()
		_ = conn.SetDeadline(start.Add(10 * time.Second))
		_, err := conn.Write([]byte{'x'})
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if err != nil {
			s.done <- err
			return
		}
		s.longest.Store(max(s.longest.Load(), int64(time.Since(start))))
		s.rounds.Add(1)
	}
}

func (s *session) end(t *testing.T, what string) {
	t.Helper()
	close(s.stop)
	if err := <-s.done; err != nil {
		t.Errorf("%s broke: %v", what, err)
	}
	t.Logf("%s: %d rounds, the longest took %v", what, s.rounds.Load(), time.Duration(s.longest.Load()))
}

// pings are sent every 10 ms until they are stopped.
type pings struct {
	cmd *exec.Cmd
	out io.Reader
}

func (m *machine) pings(addr string) *pings {
	m.t.Helper()
	p := &pings{}
	err := inNamespace(m.ns, func() error {
		p.cmd = exec.Command("ping", "-n", "-q", "-i0.01", addr)
		out, err := p.cmd.StdoutPipe()
		p.out = out
		if err != nil {
			return err
		}
		return p.cmd.Start()
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

var pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received`)

func (p *pings) lost(t *testing.T) (sent, lost int) {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Signal(syscall.SIGINT)); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(p.out)
	if err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
	counts := pingCounts.FindStringSubmatch(string(text))
	if counts == nil {
		t.Fatalf("ping told no counts: %s", text)
	}
	sent, _ = strconv.Atoi(counts[1])
	received, _ := strconv.Atoi(counts[2])
	return sent, sent - received
}

// tunnel joins the host and the plain machine by VXLAN over eth0's addresses.
func (l *lan) tunnel() {
	l.host.ip(`link add vx type vxlan id 42 local 192.0.2.10 remote 192.0.2.200 dstport 4789
		addr add 10.9.0.1/24 dev vx
		link set vx up`)
	l.plain.ip(`link add vx type vxlan id 42 local 192.0.2.200 remote 192.0.2.10 dstport 4789
		addr add 10.9.0.2/24 dev vx
		link set vx up`)
	l.plain.reaches("10.9.0.1")
}

// TestTrafficGoesOnThroughTheMove moves the NIC to and fro under traffic.
func TestTrafficGoesOnThroughTheMove(t *testing.T) {
	l := newLAN(t)
	l.tunnel()
	p := newPlane(t, l.host, t.TempDir())
	s := segment("phys", nil)
	sessions := map[string]*session{
		"TCP over IPv4": l.session("192.0.2.10"), "TCP over IPv6": l.session("2001:db8:1::10"), "TCP over VXLAN": l.session("10.9.0.1"),
	}
	flows := map[string]*pings{
		"in over IPv4": l.plain.pings("192.0.2.10"), "in over IPv6": l.plain.pings("2001:db8:1::10"),
		"out over IPv4": l.host.pings("198.51.100.1"), "out over IPv6": l.host.pings("2001:db8:ffff::1"), "over VXLAN": l.host.pings("10.9.0.2"),
	}
	const moves = 5
	for range moves {
		l.chatter(sessions)
		apply(t, p, s)
		l.chatter(sessions)
		prune(t, p)
	}
	l.chatter(sessions)
	for what, session := range sessions {
		session.end(t, what)
	}
	for what, flow := range flows {
		sent, lost := flow.lost(t)
		t.Logf("pings %s: %d of %d lost in %d moves", what, lost, sent, 2*moves)
		// A ping every 10 ms, so that one lost in a move is a gap of about 10 ms.
		if lost > 2*moves {
			t.Errorf("pings %s: %d of %d lost in %d moves", what, lost, sent, 2*moves)
		}
	}
}

// chatter waits until each session made some more rounds.
func (l *lan) chatter(sessions map[string]*session) {
	l.t.Helper()
	for what, s := range sessions {
		from := s.rounds.Load()
		eventually(l.t, what+" goes on", func() error {
			if s.rounds.Load() < from+20 {
				return os.ErrDeadlineExceeded
			}
			return nil
		})
	}
}
