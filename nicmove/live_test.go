package nicmove

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

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// session is a TCP connection from the plain machine to the host, as an
// administrator's is: a byte goes to and fro all the time.
type session struct {
	rounds  atomic.Int64
	longest atomic.Int64 // ns that a byte took to come back
	stop    chan struct{}
	done    chan error
}

func openSession(l *lantest.LAN, addr string) *session {
	l.T.Helper()
	var listener net.Listener
	err := nl.Do(l.Host.NS, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	})
	if err != nil {
		l.T.Fatal(err)
	}
	var client net.Conn
	err = nl.Do(l.Plain.NS, func() (err error) {
		client, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	})
	if err != nil {
		l.T.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		l.T.Fatal(err)
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

func startPings(m *lantest.Machine, addr string) *pings {
	m.T.Helper()
	p := &pings{}
	err := nl.Do(m.NS, func() error {
		p.cmd = exec.Command("ping", "-n", "-q", "-i0.01", addr)
		out, err := p.cmd.StdoutPipe()
		p.out = out
		if err != nil {
			return err
		}
		return p.cmd.Start()
	})
	if err != nil {
		m.T.Fatal(err)
	}
	m.T.Cleanup(func() { _ = p.cmd.Process.Kill() })
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
func tunnel(l *lantest.LAN) {
	l.Host.IP(`link add vx type vxlan id 42 local 192.0.2.10 remote 192.0.2.200 dstport 4789
		addr add 10.9.0.1/24 dev vx
		link set vx up`)
	l.Plain.IP(`link add vx type vxlan id 42 local 192.0.2.200 remote 192.0.2.10 dstport 4789
		addr add 10.9.0.2/24 dev vx
		link set vx up`)
	l.Plain.Reaches("10.9.0.1")
}

// TestTrafficGoesOnThroughTheMove moves the NIC to and fro under traffic.
func TestTrafficGoesOnThroughTheMove(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	tunnel(l)
	p := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	sessions := map[string]*session{
		"TCP over IPv4": openSession(l, "192.0.2.10"), "TCP over IPv6": openSession(l, "2001:db8:1::10"), "TCP over VXLAN": openSession(l, "10.9.0.1"),
	}
	flows := map[string]*pings{
		"in over IPv4": startPings(l.Plain, "192.0.2.10"), "in over IPv6": startPings(l.Plain, "2001:db8:1::10"),
		"out over IPv4": startPings(l.Host, "198.51.100.1"), "out over IPv6": startPings(l.Host, "2001:db8:ffff::1"), "over VXLAN": startPings(l.Host, "10.9.0.2"),
	}
	const moves = 5
	for range moves {
		chatter(l, sessions)
		apply(t, p, s)
		chatter(l, sessions)
		prune(t, p)
	}
	chatter(l, sessions)
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
func chatter(l *lantest.LAN, sessions map[string]*session) {
	l.T.Helper()
	for what, s := range sessions {
		from := s.rounds.Load()
		lantest.Eventually(l.T, what+" goes on", func() error {
			if s.rounds.Load() < from+20 {
				return os.ErrDeadlineExceeded
			}
			return nil
		})
	}
}
