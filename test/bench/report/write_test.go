package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

//nolint:gochecknoglobals // a flag
var update = flag.Bool("update", false, "write testdata anew")

// measured are the results of two runs, with all that can happen in them.
func measured() (engines, scale *Results) {
	tcp := &Figure{
		ID: "tcp1", Title: "TCP, one stream", How: "`iperf3`.", Unit: "Gbit/s", HigherIsBetter: true, Columns: []string{"Gbit/s"}, Base: "host",
	}
	for round, values := range []map[string]float64{{"host": 15, "overlay": 12, "vxlan": 13}, {"host": 14, "overlay": 12.5, "vxlan": 12.25}} {
		for row, value := range values {
			tcp.Add(row, "Gbit/s", round, value)
		}
	}
	tcp.Fail("macvlan", 1, errors.New("iperf3: exit status 1:\n| no route |"))
	start := &Figure{ID: "run", Title: "docker run", Unit: "ms", Columns: []string{"ms"}, Base: "none", Over: true}
	calls := &Figure{ID: "handlers", Title: "Calls", Unit: "ms, p50 / p99", Quantiles: true, Columns: []string{"CreateEndpoint + Join", "Join"}}
	for n := range 20 {
		start.Add("none", "ms", 0, float64(140+n%3))
		start.Add("vxlan", "ms", 0, float64(200+n%5))
		start.Add("bridge", "ms", 0, float64(230+n%5))
		calls.Add("vxlan", "CreateEndpoint + Join", 0, 1+float64(n)/10)
		calls.Add("vxlan", "Join", 0, 1)
	}
	rows := []Row{
		{Name: "host", What: "the limit"}, {Name: "none"}, {Name: "bridge"}, {Name: "overlay", What: "Docker's"}, {Name: "macvlan"}, {Name: "vxlan", What: "ours"},
		{Name: "routed", Skipped: "docker network create: unknown mode"},
	}
	engines = &Results{
		Taken: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), Took: "12m0s", Command: "sudo make bench", Trial: "a busy machine",
		Facts: []Fact{{"kernel", "Linux 6.18"}},
		Sections: []Section{
			{ID: "traffic", Title: "Traffic", Intro: "Between containers.", Rows: rows, Figures: []*Figure{tcp}},
			{ID: "starts", Title: "Starts", Rows: rows, Figures: []*Figure{start, calls}},
		},
	}
	cold := &Figure{ID: "cold-start", Title: "cold start", Unit: "s", Columns: []string{"value"}}
	late := &Figure{ID: "convergence-p99", Title: "convergence, p99", Unit: "ms", Columns: []string{"value"}}
	for size, name := range map[float64]string{10: "10 hosts", 100: "100 hosts", 1000: "1000 hosts"} {
		cold.Add(name, "value", 0, size/100)
		late.Add(name, "value", 0, 30)
	}
	scale = &Results{
		Taken: time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC), Took: "9m0s", Command: "sudo make bench-scale",
		Sections: []Section{{ID: "control", Title: "The control path", Growth: true, Figures: []*Figure{cold, late}, Rows: []Row{
			{Name: "10 hosts", Size: 10}, {Name: "100 hosts", Size: 100}, {Name: "1000 hosts", Size: 1000},
		}}},
	}
	return engines, scale
}

func TestPageIsAsItWas(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "benchmarks"), 0o755); err != nil {
		t.Fatal(err)
	}
	engines, scale := measured()
	for name, r := range map[string]*Results{"engines.json": engines, "scale.json": scale} {
		path := filepath.Join(dir, "benchmarks", name)
		if err := r.Save(path); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("what was read is not what was written:\n%s", diff)
		}
	}
	gone := filepath.Join(dir, "benchmarks", "of-before.svg")
	if err := os.WriteFile(gone, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, func(row string) bool { return row == "vxlan" }); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); err == nil {
		t.Error("the plot of a figure that is no more is left")
	}
	got, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/benchmarks.md"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the page is another; go test -update writes it anew:\n%s", diff)
	}
	for id, texts := range map[string][]string{"tcp1": {"host", "overlay", "vxlan"}, "control": {"cold start", "1000"}} {
		checkPlot(t, filepath.Join(dir, "benchmarks", id+".svg"), texts)
	}
}

// checkPlot says whether the image is XML with these texts and more than texts in it.
func checkPlot(t *testing.T, path string, texts []string) {
	t.Helper()
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	paths := 0
	for decoder := xml.NewDecoder(bytes.NewReader(image)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "path" {
			paths++
		}
	}
	if paths < 3 {
		t.Errorf("%s has %d paths", path, paths)
	}
	for _, text := range texts {
		if !strings.Contains(string(image), ">"+text+"<") {
			t.Errorf("%s does not tell of %s", path, text)
		}
	}
}

func TestResultsOfASectionAreReplaced(t *testing.T) {
	r := &Results{Sections: []Section{{ID: "a", Title: "old"}, {ID: "b"}}}
	r.Put(Section{ID: "a", Title: "new"})
	r.Put(Section{ID: "c"})
	if len(r.Sections) != 3 || r.Section("a").Title != "new" || r.Section("c") == nil || r.Section("d") != nil {
		t.Errorf("got %+v", r.Sections)
	}
}
