package scale

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// server is the etcd, in a process of its own.
type server struct {
	url     string
	command *exec.Cmd
}

// serveEtcd is that process: it runs until it gets a signal.
func serveEtcd(dir, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	etcd, err := kvstore.StartEmbedded(ctx, kvstore.EmbeddedConfig{DataDir: dir, Listen: listen})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return etcd.Close()
}

func startEtcd(ctx context.Context, dir string) (*server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + address, command: exec.CommandContext(ctx, self)}
	s.command.Env = append(os.Environ(), "CAUSEWAY_BENCH=etcd", "CAUSEWAY_BENCH_DIR="+dir, "CAUSEWAY_BENCH_ETCD="+address)
	s.command.Stderr = os.Stderr
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // where the test is killed
	s.command.Cancel = func() error { return s.command.Process.Signal(syscall.SIGTERM) }
	return s, s.command.Start()
}

func (s *server) end(t *testing.T) {
	t.Helper()
	if err := errors.Join(s.command.Cancel(), s.command.Wait()); err != nil {
		t.Error(err)
	}
}

// counters are what the server has counted since its start.
type counters struct {
	requests, watches, sent, received, cpu float64
	at                                     time.Time
}

func (s *server) counters(ctx context.Context) (counters, error) {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		return counters{}, err
	}
	response, err := http.DefaultClient.Do(get)
	if err != nil {
		return counters{}, err
	}
	defer response.Body.Close()
	c := counters{at: time.Now()}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch {
		case strings.HasPrefix(name, "grpc_server_started_total") && strings.Contains(name, `grpc_type="unary"`):
			c.requests += number
		case name == "etcd_debugging_mvcc_watcher_total":
			c.watches = number
		case name == "etcd_network_client_grpc_sent_bytes_total":
			c.sent = number
		case name == "etcd_network_client_grpc_received_bytes_total":
			c.received = number
		case name == "process_cpu_seconds_total":
			c.cpu = number
		}
	}
	if c.cpu == 0 {
		return c, fmt.Errorf("%s/metrics has no counters", s.url)
	}
	return c, lines.Err()
}

func (c counters) since(before counters) counters {
	return counters{
		requests: c.requests - before.requests, sent: c.sent - before.sent, received: c.received - before.received,
		cpu: c.cpu - before.cpu, watches: c.watches,
	}
}

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// rss is the memory of this process now, peak the most that it had, in MiB.
func rss() (now, peak float64) {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		kib, _ := strconv.ParseFloat(fields[1], 64)
		switch fields[0] {
		case "VmRSS:":
			now = kib / 1024
		case "VmHWM:":
			peak = kib / 1024
		}
	}
	return now, peak
}
