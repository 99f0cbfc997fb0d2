package main

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/causeway-net/causeway/test/bench/report"
)

// benchmark is one of Go's benchmarks of vxlan, as a figure.
type benchmark struct {
	name           string
	row, id, title string
	unit           string
	nanoseconds    float64 // of the unit
}

func benchmarks() []benchmark {
	const peers, networks = "10,000 peers", "1,000 networks of ten peers"
	return []benchmark{
		{"ApplyCold10000", peers, "apply-cold", "A segment is applied for the first time", "s", 1e9},
		{"UpdateOneOf10000", peers, "apply-one", "One peer of it comes or goes", "ms", 1e6},
		{"ReadBack10000", peers, "apply-read", "It is read back and compared", "ms", 1e6},
		{"ThousandNetworks/cold", networks, "networks-cold", "All are applied for the first time", "s", 1e9},
		{"ThousandNetworks/read_back", networks, "networks-read", "All are read back and compared", "s", 1e9},
	}
}

// addKernel puts what "go test -bench" of vxlan says into the results.
func addKernel(out io.Reader, folder string) error {
	path := filepath.Join(folder, "benchmarks", "scale.json")
	r, err := report.Load(path)
	if err != nil {
		return err
	}
	s, err := kernelSection(out)
	if err != nil {
		return err
	}
	r.Put(s)
	return r.Save(path)
}

func kernelSection(out io.Reader) (report.Section, error) {
	s := report.Section{
		ID: "kernel", Title: "The kernel's part, mode=vxlan", Intro: "The data plane alone, in fresh network namespaces of this kernel.",
		Rows: []report.Row{{Name: "10,000 peers"}, {Name: "1,000 networks of ten peers"}},
	}
	figures := make(map[string]*report.Figure)
	for _, b := range benchmarks() {
		figures[b.name] = &report.Figure{ID: b.id, Title: b.title, Unit: b.unit, Columns: []string{"value"}}
		s.Figures = append(s.Figures, figures[b.name])
	}
	line := regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op`)
	lines, found := bufio.NewScanner(out), 0
	for lines.Scan() {
		match := line.FindStringSubmatch(lines.Text())
		if match == nil {
			continue
		}
		value, err := strconv.ParseFloat(match[2], 64)
		if err != nil {
			return s, err
		}
		for _, b := range benchmarks() {
			if b.name == match[1] {
				figures[b.name].Add(b.row, "value", 0, value/b.nanoseconds)
				found++
			}
		}
	}
	if found == 0 {
		return s, fmt.Errorf("no benchmark of vxlan was run: this needs root")
	}
	return s, lines.Err()
}
