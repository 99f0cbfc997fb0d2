package test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
	"github.com/causeway-net/causeway/test/bench/report"
)

// TestSoak has random faults for as long as CAUSEWAY_SOAK says, under the load of
// TestFaults, and holds that what an agent uses stays flat. make soak has it, and writes
// docs/faults/soak.svg.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CAUSEWAY_SOAK"))
	if err != nil {
		t.Skip("hours of faults: make soak has them")
	}
	c := up(t, lab.Options{Hosts: bedHosts, DockerArgs: []string{"--live-restore"}, CausewayArgs: []string{"--fault-points", "--pprof"}})
	random := faultRandom(t)
	b := newFaultBed(c)
	list := b.faults()
	used := report.Section{ID: "soak", Title: "What an agent uses, the most of three hosts, by minutes"}
	var rows []row
	for begun := time.Now(); time.Since(begun) < length && !t.Failed(); {
		f := list[random.IntN(len(list))]
		t.Run(f.name, func(t *testing.T) {
			b.cluster = c.sub(t)
			rows = append(rows, b.endure(f, random))
			b.sample(&used, time.Since(begun))
		})
	}
	t.Log("\n" + table(rows))
	for _, figure := range used.Figures {
		third := max(1, len(used.Rows)/3)
		first, last := medianOf(figure, used.Rows[:third]), medianOf(figure, used.Rows[len(used.Rows)-third:])
		t.Logf("%s: %.0f %s in the first third, %.0f in the last", figure.Title, first, figure.Unit, last)
		if last > 1.5*first {
			t.Errorf("%s grows", figure.Title)
		}
	}
	svg, err := used.SVG()
	if err == nil {
		err = os.WriteFile(filepath.Join("..", "docs", "faults", "soak.svg"), svg, 0o644)
	}
	if err != nil {
		t.Error(err)
	}
}

func medianOf(figure *report.Figure, rows []report.Row) float64 {
	var values []float64
	for _, row := range rows {
		values = append(values, figure.Values(row.Name, figure.Columns[0])...)
	}
	return report.Median(values)
}

// sample adds what the agents use now.
func (b *faultBed) sample(used *report.Section, after time.Duration) {
	b.Helper()
	row := report.Row{Name: after.Round(time.Second).String(), Size: after.Minutes()}
	used.Rows = append(used.Rows, row)
	for i, what := range []struct {
		title, unit string
		of          func(*host) (float64, error)
	}{
		{"resident memory", "MiB", residentMemory},
		{"descriptors", "", descriptors},
		{"goroutines", "", goroutines},
		{"the store's file", "MiB", storeSize},
	} {
		if len(used.Figures) == i {
			used.Figures = append(used.Figures, &report.Figure{ID: what.title, Title: what.title, Unit: what.unit, Columns: []string{"most"}})
		}
		most := 0.0
		for n := 1; n <= bedHosts; n++ {
			value, err := what.of(b.host(n))
			if err != nil {
				b.Fatal(err)
			}
			most = max(most, value)
		}
		used.Figures[i].Add(row.Name, "most", 0, most)
	}
}

func residentMemory(h *host) (float64, error) {
	out, err := h.try("sed", "-n", `s/^VmRSS:\s*\([0-9]*\) kB/\1/p`, fmt.Sprintf("/proc/%d/status", h.Causeway.PID()))
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.ParseFloat(out, 64)
	return kilobytes / 1024, err
}

func descriptors(h *host) (float64, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.Causeway.PID()))
	return float64(len(open)), err
}

// goroutines reads the first line of the profile: "goroutine profile: total 57".
func goroutines(h *host) (float64, error) {
	client := h.agent()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(h.c.Context(), http.MethodGet, "http://agent/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return 0, err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " ")+1:]), 64)
}

func storeSize(h *host) (float64, error) {
	info, err := os.Stat(h.Path("/var/lib/causeway/etcd/member/snap/db"))
	if err != nil {
		return 0, err
	}
	return float64(info.Size()) / (1 << 20), nil
}
