package main

import (
	"math"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/test/bench/report"
)

func TestKernelSectionFromGoTest(t *testing.T) {
	s, err := kernelSection(strings.NewReader(`goos: linux
BenchmarkApplyCold10000-2    	       5	 203000000 ns/op
BenchmarkApplyCold10000-2    	       5	 205000000 ns/op	 12 B/op
BenchmarkUpdateOneOf10000-2  	       5	   63000 ns/op
BenchmarkThousandNetworks/read_back-2         	       5	1900000000 ns/op
BenchmarkOther-2 	       5	1 ns/op
PASS
`))
	if err != nil {
		t.Fatal(err)
	}
	r := report.Results{Sections: []report.Section{s}}
	for id, want := range map[string]float64{"apply-cold": 0.204, "apply-one": 0.063} {
		if got := report.Median(r.Figure(id).Values("10,000 peers", "value")); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, and should be %v", id, got, want)
		}
	}
	if got := r.Figure("networks-read").Values("1,000 networks of ten peers", "value"); len(got) != 1 || got[0] != 1.9 {
		t.Errorf("reading 1,000 networks back is %v", got)
	}
	if _, err := kernelSection(strings.NewReader("PASS\n")); err == nil {
		t.Error("nothing was measured, and that is no error")
	}
}
