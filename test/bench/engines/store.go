package engines

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/lab"
)

// storeMeter reads what the members of a closed cluster's store have counted.
type storeMeter struct {
	client *http.Client
	urls   []string
}

const dataDir = "/var/lib/causeway"

// newStoreMeter asks with the first host's certificate, from that host.
func newStoreMeter(hosts []*lab.Host) (*storeMeter, error) {
	first := hosts[0]
	authority, err := os.ReadFile(first.Path(dataDir + "/trust/ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	file := first.Path(dataDir + "/trust/host.pem")
	pair, err := tls.LoadX509KeyPair(file, file)
	if err != nil {
		return nil, err
	}
	m := &storeMeter{client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, kind, address string) (conn net.Conn, err error) {
			home, err := netns.GetFromPid(first.PID())
			if err != nil {
				return nil, err
			}
			defer home.Close()
			err = nl.Do(home, func() (err error) {
				conn, err = new(net.Dialer).DialContext(ctx, kind, address)
				return err
			})
			return conn, err
		},
	}}}
	for _, h := range hosts {
		m.urls = append(m.urls, fmt.Sprintf("https://%s:2379/metrics", h.Addrs()[0].Addr()))
	}
	return m, nil
}

// counters are requests with one answer each, and bytes in both directions, of clients.
type counters struct{ requests, bytes float64 }

func (c counters) since(before counters) counters {
	return counters{c.requests - before.requests, c.bytes - before.bytes}
}

// read sums up all members; a host that is none does not listen.
func (m *storeMeter) read(ctx context.Context) (sum counters, err error) {
	members := 0
	for _, url := range m.urls {
		c, err := m.readOne(ctx, url)
		var refused *net.OpError
		if errors.As(err, &refused) && refused.Op == "dial" {
			continue
		}
		if err != nil {
			return sum, err
		}
		members++
		sum.requests += c.requests
		sum.bytes += c.bytes
	}
	if members == 0 {
		return sum, fmt.Errorf("no member of the store tells its counters at %s", strings.Join(m.urls, ", "))
	}
	return sum, nil
}

func (m *storeMeter) readOne(ctx context.Context, url string) (c counters, err error) {
	get, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return c, err
	}
	answer, err := m.client.Do(get)
	if err != nil {
		return c, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c, fmt.Errorf("%s: %s", url, answer.Status)
	}
	found := false
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch {
		case strings.HasPrefix(name, "grpc_server_started_total") && strings.Contains(name, `grpc_type="unary"`):
			c.requests, found = c.requests+value, true
		case name == "etcd_network_client_grpc_sent_bytes_total", name == "etcd_network_client_grpc_received_bytes_total":
			c.bytes += value
		}
	}
	if !found {
		return c, fmt.Errorf("%s has no counters of requests", url)
	}
	return c, lines.Err()
}

// memory is what the first host's causeway has, with its part of the store, in MiB.
func memory(_ context.Context, a *attempt) error {
	for n, h := range a.hosts {
		resident, err := residentMiB(h.Causeway.PID())
		if err != nil {
			return err
		}
		a.add("memory", fmt.Sprintf("h%d, MiB", n+1), resident)
	}
	return nil
}

func residentMiB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d tells no memory", pid)
}
