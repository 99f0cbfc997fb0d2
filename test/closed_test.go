package test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/lab"
	"github.com/causeway-net/causeway/trust"
)

// TestClosedCluster has h1 begin a cluster without any setting and h2 join it with
// the line that "causeway token" printed.
func TestClosedCluster(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, CausewayArgs: []string{"--metrics-listen=:" + metricsPort}})
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"strangers get nothing", strangers},
		{"no record in clear text on the wire", wiretap},
		{"figures", figures},
		{"reports", reports},
		{"tokens", tokens},
		{"the authority is replaced", replacedAuthority},
		{"a removed host's certificate is worth nothing", removedHost},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(c.sub(t)) })
	}
}

// strangers are a container, whose packets are dropped, and the machine without Docker,
// which gets no byte of what the ports of the store serve.
func strangers(c *cluster) {
	container := c.host(2).run("stranger")
	if open := openPorts(c, container.pid(), netip.MustParseAddr("10.99.0.1")); len(open) > 0 {
		c.Errorf("a container connects to %v", open)
	}
	pid := c.machine("plain").PID()
	for _, port := range []string{"2379", "2380"} {
		conn, err := dialFrom(pid, net.JoinHostPort("10.99.0.1", port))
		if err != nil {
			c.Errorf("port %s is not even reached: %v", port, err)
			continue
		}
		secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		_ = secure.SetDeadline(time.Now().Add(10 * time.Second))
		_, err = secure.Read(make([]byte, 1)) // a server that takes a client begins with its settings (RFC 9113 §3.4)
		if err == nil || !strings.HasPrefix(err.Error(), "remote error: tls: certificate required") {
			c.Errorf("port %s: %v, want a TLS alert", port, err)
		}
		secure.Close()
		plain, err := dialFrom(pid, net.JoinHostPort("10.99.0.1", port))
		if err != nil {
			c.Error(err)
			continue
		}
		_ = plain.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(plain, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		if answer, _ := io.ReadAll(plain); bytes.Contains(answer, []byte("200")) {
			c.Errorf("port %s in clear text: %q", port, answer)
		}
		plain.Close()
	}
}

// wiretap looks at all that leaves and reaches h2 while a network is made there.
func wiretap(c *cluster) {
	const name = "eavesdropped"
	ctx, cancel := context.WithCancel(c.Context())
	defer cancel()
	seen := capture(c, ctx, c.host(2).PID())
	c.host(2).docker("network", "create", "-d", "causeway", "--subnet=192.168.77.0/24", name)
	c.Cleanup(func() { c.removeNetwork(name) })
	c.everywhere(name)
	c.host(2).run("heard", "--net="+name)
	cancel()
	frames := <-seen
	if bytes.Contains(frames, []byte(name)) || bytes.Contains(frames, []byte("192.168.77.0")) {
		c.Error("a record was on the wire in clear text")
	}
	if len(frames) < 10_000 {
		c.Errorf("only %d bytes were seen on the wire", len(frames))
	}
}

// tokens are listed and deleted.
func tokens(c *cluster) {
	h := c.host(1)
	out, err := h.try("causeway", "token", "--ttl", "5m")
	if err != nil {
		c.Fatal(err)
	}
	_, rest, _ := strings.Cut(out, "serve --join ")
	token, _, _ := strings.Cut(rest, "\n")
	parsed, err := trust.ParseToken(token)
	if err != nil {
		c.Fatalf("%v in %s", err, out)
	}
	plugin := "PLUGIN"
	if h.managed() {
		if plugin, err = h.PluginName(c.Context()); err != nil {
			c.Fatal(err)
		}
	}
	if !strings.Contains(out, " "+plugin+" CAUSEWAY_JOIN="+token+"\n") {
		c.Errorf("the plugin is not %s in %s", plugin, out)
	}
	if err := c.host(2).shows(parsed.ID, "token", "ls"); err != nil {
		c.Error(err)
	}
	if out, err := c.host(2).try("causeway", "token", "rm", parsed.ID); err != nil || out != "token "+parsed.ID+" is deleted" {
		c.Errorf("%s, %v", out, err)
	}
	if h.shows(parsed.ID, "token", "ls") == nil {
		c.Error("a deleted token is listed")
	}
}

// replacedAuthority has every host come to believe a new authority.
func replacedAuthority(c *cluster) {
	out, err := c.host(1).try("causeway", "ca", "rotate")
	if err != nil || !strings.HasSuffix(out, "the authority is replaced") {
		c.Fatalf("%v\n%s", err, out)
	}
	const name = "rotated"
	c.network(name, "--subnet=192.168.78.0/24")
	one, two := c.host(1).run("rotated1", "--net="+name), c.host(2).run("rotated2", "--net="+name)
	one.pings(two.addr(name))
}

// removedHost has h2's certificate stolen before the host is removed: a watch that
// is open ends, and nothing else is let in. The host comes back with a new token.
func removedHost(c *cluster) {
	h := c.host(2)
	daemon, binary := h.Causeway.(*lab.Daemon)
	if !binary {
		c.Skip("the plugin's folder is the engine's")
	}
	stolen := trust.NewDir(c.TempDir())
	files, err := filepath.Glob(h.Path("/var/lib/causeway/trust") + "/*")
	if err != nil || len(files) == 0 {
		c.Fatalf("h2 has %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			c.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(stolen.CAFile()), filepath.Base(file)), text, 0o600); err != nil {
			c.Fatal(err)
		}
	}
	thief, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + relay(c, c.machine("plain").PID(), "10.99.0.1:2379")}, TLS: stolen.Client(), Logger: zap.NewNop(),
	})
	if err != nil {
		c.Fatal(err)
	}
	defer thief.Close()
	watch := thief.Watch(c.Context(), "/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if first := <-watch; !first.Created {
		c.Fatalf("the certificate was worth nothing before: %v", first.Err())
	}
	c.loseHost(2)
	removed := time.Now()
	if out, err := c.host(1).try("causeway", "hosts", "rm", h.Name()); err != nil {
		c.Fatalf("%s, %v", out, err)
	}
	for open := true; open; {
		select {
		case response, ok := <-watch:
			open = ok && response.Err() == nil
		case <-time.After(10 * time.Second):
			c.Fatal("the watch goes on")
		}
	}
	c.Logf("the watch ended %v after the removal began", time.Since(removed).Round(time.Millisecond))
	ctx, cancel := context.WithTimeout(c.Context(), 3*time.Second)
	defer cancel()
	if _, err := thief.Get(ctx, "/x"); err == nil {
		c.Error("a removed host reads the store")
	}
	token, err := c.host(1).try("causeway", "token", "-q")
	if err != nil {
		c.Fatal(err)
	}
	daemon.Extra = []string{"--join", token}
	if err := daemon.Start(c.Context()); err != nil {
		c.Fatal(err)
	}
	eventually(c.T, "h2 is in the cluster again", func() error { return h.shows("10.99.0.2", "hosts") })
}

// inNetNS runs do in the network namespace of a process.
func inNetNS(pid int, do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine: its namespace is another
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = do()
		}
		result <- err
	}()
	return <-result
}

// dialFrom connects from the network namespace of a process.
func dialFrom(pid int, address string) (net.Conn, error) {
	var conn net.Conn
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	err = inNetNS(pid, func() error {
		// The socket is this thread's; one of net's could be another's.
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file := os.NewFile(uintptr(fd), address)
		defer file.Close()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
			return fmt.Errorf("connect to %s: %w", address, err)
		}
		conn, err = net.FileConn(file)
		return err
	})
	return conn, err
}

// relay listens here and connects from the network namespace of a process.
func relay(c *cluster, pid int, address string) string {
	c.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() { listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := dialFrom(pid, address)
			if err != nil {
				near.Close()
				continue
			}
			for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
				go func() {
					_, _ = io.Copy(to, from)
					near.Close()
					far.Close()
				}()
			}
		}
	}()
	return listener.Addr().String()
}

// capture gives all frames of eth0 in a namespace, once ctx has ended.
func capture(c *cluster, ctx context.Context, pid int) <-chan []byte {
	c.Helper()
	fd := -1
	err := inNetNS(pid, func() (err error) {
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		c.Fatal(err)
	}
	seen := make(chan []byte, 1)
	go func() {
		defer unix.Close(fd)
		var frames []byte
		frame := make([]byte, 1<<16)
		for ctx.Err() == nil {
			if n, _, err := unix.Recvfrom(fd, frame, 0); err == nil {
				frames = append(frames, frame[:n]...)
			}
		}
		seen <- frames
	}()
	return seen
}
