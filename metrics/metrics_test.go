package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/metrics"
	"github.com/causeway-net/causeway/reconcile"
)

// deaf is a store that answers nothing.
type deaf struct{ kvstore.Store }

func (deaf) Get(context.Context, string) (kvstore.Item, error) {
	return kvstore.Item{}, kvstore.ErrUnavailable
}

// full is a host that has a figure of each kind.
func full(t *testing.T) (*prometheus.Registry, *metrics.Metrics, *metrics.Config) {
	t.Helper()
	log, _ := test.NewNullLogger()
	board := health.New(logrus.NewEntry(log))
	board.Report(health.Scope{Part: health.Store}, errors.New("away"))
	network := fabric.Network{ID: "0123456789ab", Name: "shop", Mode: fabric.ModeVXLAN, Subnets: []fabric.Subnet{
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1")},
		{Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
	}}
	config := &metrics.Config{
		Version: "1.2", Board: board,
		Figures: func(context.Context) (reconcile.Figures, error) {
			return reconcile.Figures{
				Hosts: 3, Networks: 2, Here: []reconcile.NetworkFigures{{Network: network, Endpoints: 5, Local: 2}},
				Work: map[fabric.Mode]reconcile.Work{fabric.ModeVXLAN: {Changes: 7, Wholes: 4, Failures: 1, Mended: 9}},
			}, nil
		},
		Drops:   func() ([]hostfilter.Drop, error) { return []hostfilter.Drop{{Counter: "strangers", Packets: 11}}, nil },
		Traffic: func(fabric.Network) (metrics.Traffic, bool) { return metrics.Traffic{ReceivedBytes: 1}, true },
		Expiry:  func() (time.Time, error) { return time.Unix(1e9, 0), nil },
	}
	registry := prometheus.NewRegistry()
	m, err := metrics.New(registry, *config)
	if err != nil {
		t.Fatal(err)
	}
	m.Handled("NetworkDriver.Join", time.Millisecond, errors.New("refused"))
	if _, err := m.Store(deaf{}).Get(t.Context(), "key"); !errors.Is(err, kvstore.ErrUnavailable) {
		t.Errorf("the store's error is %v", err)
	}
	return registry, m, config
}

// exported gives a line for each figure: name, type and labels.
func exported(t *testing.T) []string {
	t.Helper()
	registry, _, _ := full(t)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "causeway_") {
			continue
		}
		var labels []string
		for _, label := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		slices.Sort(labels)
		lines = append(lines, fmt.Sprintln(family.GetName(), strings.ToLower(family.GetType().String()), labels))
	}
	slices.Sort(lines)
	return lines
}

func TestDocumentHasWhatIsExported(t *testing.T) {
	text, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(causeway_[a-z_]+)` \\| (\\w+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		labels := strings.Fields(strings.ReplaceAll(row[3], "`", ""))
		slices.Sort(labels)
		documented = append(documented, fmt.Sprintln(row[1], row[2], labels))
	}
	slices.Sort(documented)
	if diff := cmp.Diff(documented, exported(t)); diff != "" {
		t.Errorf("documented (-) and exported (+) differ:\n%s", diff)
	}
}

func TestRulesAndDashboardUseWhatIsExported(t *testing.T) {
	names := make(map[string]bool)
	for _, line := range exported(t) {
		fields := strings.Fields(line)
		if fields[1] == "histogram" {
			fields[0] += "_bucket"
		}
		names[fields[0]] = true
	}
	for _, path := range []string{"../contrib/alerts.yml", "../contrib/grafana-dashboard.json"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`\bcauseway_[a-z_]+`).FindAllString(string(text), -1)
		if len(used) < 10 {
			t.Errorf("%s uses %d figures", path, len(used))
		}
		for _, name := range used {
			if !names[name] {
				t.Errorf("%s uses %s, which is not exported", path, name)
			}
		}
	}
}

// TestPromtoolTakesTheRules needs Debian's prometheus, as causeway-lab tools has it.
func TestPromtoolTakesTheRules(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("needs promtool: bin/causeway-lab tools go test ./metrics")
	}
	if out, err := exec.Command("promtool", "check", "rules", "--lint-fatal", "../contrib/alerts.yml").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	_, m, _ := full(t)
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(scrape(t, m))
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// scrape reads what m serves.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Serve(ctx, listener) }()
	response, err := http.Get("http://" + listener.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s, %v", response.Status, err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestScrape(t *testing.T) {
	_, m, _ := full(t)
	text := scrape(t, m)
	for _, want := range []string{
		`causeway_hosts 3`,
		`causeway_network_addresses_used{family="ipv4",network="shop"} 6`,
		`causeway_network_addresses_free{family="ipv4",network="shop"} 248`,
		`causeway_network_addresses_used{family="ipv6",network="shop"} 6`,
		`causeway_store_up 0`,
		`causeway_faults_total{part="store"} 1`,
		`causeway_mends_total{mode="vxlan"} 9`,
		`causeway_drops_total{reason="strangers"} 11`,
		`causeway_handler_errors_total{handler="NetworkDriver.Join"} 1`,
		`causeway_store_request_errors_total{operation="get"} 1`,
		`causeway_certificate_expiry_timestamp_seconds 1e+09`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	if strings.Contains(text, `causeway_network_addresses_free{family="ipv6"`) {
		t.Error("the free addresses of a /64 are counted")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestScrapeOfAHostThatIsBusy has all but the loop's figures.
func TestScrapeOfAHostThatIsBusy(t *testing.T) {
	_, _, config := full(t)
	config.Figures = func(ctx context.Context) (reconcile.Figures, error) {
		<-ctx.Done()
		return reconcile.Figures{}, ctx.Err()
	}
	m, err := metrics.New(prometheus.NewRegistry(), *config)
	if err != nil {
		t.Fatal(err)
	}
	text := scrape(t, m)
	if !strings.Contains(text, "\ncauseway_store_up 0\n") || strings.Contains(text, "\ncauseway_hosts ") {
		t.Errorf("it has\n%s", text)
	}
	if text = scrape(t, m); !strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} 1`) {
		t.Errorf("the fault is not counted in\n%s", text)
	}
}
