package scale

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"

	"github.com/causeway-net/causeway/test/bench/report"
)

var (
	hosts     = flag.String("hosts", "", "sizes of the cluster, as 10,100")
	agents    = flag.Int("agents", 1000, "how many hosts run at most; the others only have records")
	endpoints = flag.Int("endpoints", 100, "endpoints of each host")
	networks  = flag.Int("networks", 1000, "networks of the cluster")
	on        = flag.Int("on", 50, "networks that each host has")
	churn     = flag.Int("churn", 50, "endpoints that come or go in a second, in the whole cluster")
	period    = flag.Duration("period", 2*time.Second, "how long each part is measured")
	results   = flag.String("results", "", "file that the figures are put into")
	profiles  = flag.String("profiles", "", "folder for a CPU profile of each part")
)

// TestMain is also the other processes: the etcd, and the agent that starts alone.
func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	switch os.Getenv("CAUSEWAY_BENCH") {
	case "etcd":
		err = serveEtcd(os.Getenv("CAUSEWAY_BENCH_DIR"), os.Getenv("CAUSEWAY_BENCH_ETCD"))
	case "start":
		err = startCold(os.Getenv("CAUSEWAY_BENCH_ETCD"), os.Getenv("CAUSEWAY_BENCH_DIR"))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// whole says that the sizes of the report are asked for; else each test is small and shows
// that all of it works.
func whole() bool { return *hosts != "" }

// sized is n for the report, or small for a test.
func sized(n, small int) int {
	if whole() {
		return n
	}
	return small
}

// section is one of the report's.
type section struct{ report.Section }

// add notes a value of a row.
func (s *section) add(row, id, title, unit string, value float64) {
	for _, f := range s.Figures {
		if f.ID == id {
			f.Add(row, "value", 0, value)
			return
		}
	}
	f := &report.Figure{ID: id, Title: title, Unit: unit, Columns: []string{"value"}}
	f.Add(row, "value", 0, value)
	s.Figures = append(s.Figures, f)
}

// keep prints the sections, and puts them into the file of -results.
func keep(t *testing.T, sections ...*section) {
	t.Helper()
	for _, s := range sections {
		for _, f := range s.Figures {
			for _, row := range s.Rows {
				t.Logf("%-60s %12s %14.3f %s", f.Title, row.Name, report.Median(f.Values(row.Name, "value")), f.Unit)
			}
		}
	}
	if *results == "" {
		return
	}
	r, err := report.Load(*results)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = &report.Results{
			Taken: time.Now(), Facts: report.Machine(t.Context()),
			Command: cmp.Or(os.Getenv("CAUSEWAY_BENCH_COMMAND"), "make bench-scale"), Trial: os.Getenv("CAUSEWAY_BENCH_TRIAL"),
		}, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sections {
		r.Put(s.Section)
	}
	r.Took = time.Since(r.Taken).Round(time.Second).String()
	if err := r.Save(*results); err != nil {
		t.Fatal(err)
	}
}

// profiled writes a profile of what run costs, where that is asked for.
func profiled(t *testing.T, name string, run func()) {
	t.Helper()
	if *profiles == "" {
		run()
		return
	}
	file, err := os.Create(filepath.Join(*profiles, name+".prof"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := pprof.StartCPUProfile(file); err != nil {
		t.Fatal(err)
	}
	defer pprof.StopCPUProfile()
	run()
}
