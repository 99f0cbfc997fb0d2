package report

import (
	"fmt"
	"math"
)

// bar is a limit that was set before it was measured.
type bar struct {
	what, limit string
	// value is what it is held against; NaN where that was not measured.
	value func(lookup) float64
	met   func(float64) bool
	// next says why the bar is missed and what comes next, where that is known.
	next string
}

// lookup finds figures in all runs.
type lookup []*Results

func (l lookup) figure(id string) *Figure {
	for _, r := range l {
		if f := r.Figure(id); f != nil {
			return f
		}
	}
	return &Figure{Columns: []string{""}}
}

func (l lookup) value(figure, row, column string, quantile float64) float64 {
	return Quantile(l.figure(figure).Values(row, column), quantile)
}

// against is how a row's first column compares with another's in the same rounds.
func (l lookup) against(figure, row, base string, over bool) float64 {
	f := *l.figure(figure)
	f.Base, f.Over = base, over
	return Median(f.compared(row))
}

func atMost(limit float64) func(float64) bool  { return func(v float64) bool { return v <= limit } }
func atLeast(limit float64) func(float64) bool { return func(v float64) bool { return v >= limit } }

// bars are those of the project, in the order of the page.
func bars() []bar {
	return append(engineBars(), scaleBars()...)
}

func engineBars() []bar {
	quantile := func(figure, column string, q float64) func(lookup) float64 {
		return func(l lookup) float64 { return l.value(figure, "vxlan", column, q) }
	}
	ratio := func(figure, row, base string) func(lookup) float64 {
		return func(l lookup) float64 { return l.against(figure, row, base, false) }
	}
	// beside is by how many ms a row is dearer than Docker's bridge, both over none.
	beside := func(figure, row string) func(lookup) float64 {
		return func(l lookup) float64 { return l.against(figure, row, "bridge", true) }
	}
	const both = "CreateEndpoint + Join"
	const checked = "the overlay does not check what containers send; without that check this row is `vxlan unfiltered`."
	return []bar{
		{"CreateEndpoint + Join, p50", "≤ 3 ms", quantile("handlers", both, 0.5), atMost(3),
			"CreateEndpoint is one commit to the store over TLS, Join makes the pair of links, on processors that both hosts' engines share. Next: a profile of Join."},
		{"CreateEndpoint + Join, p99", "≤ 15 ms", quantile("handlers", both, 0.99), atMost(15), ""},
		{"etcd requests of CreateEndpoint + Join", "≤ 2", quantile("etcd-requests", both, 0.5), atMost(2), ""},
		{"TCP, one stream, vxlan ÷ Docker's overlay", "≥ 1.0", ratio("tcp1", "vxlan", "overlay"), atLeast(1), checked},
		{"latency p50, vxlan ÷ Docker's overlay", "≤ 1.0", ratio("latency", "vxlan", "overlay"), atMost(1), ""},
		{"packets/s, vxlan ÷ Docker's overlay", "≥ 1.0", ratio("udp", "vxlan", "overlay"), atLeast(1), checked},
		{"container start, vxlan, ms more than Docker's bridge", "≤ 0", beside("run", "vxlan"), atMost(0), ""},
		{"30 containers at once, vxlan, s more than Docker's bridge", "≤ 0", beside("burst30", "vxlan"), atMost(0),
			"Joins wait for the kernel's lock of all links, which the end of each container holds."},
		{"TCP, one stream, routed ÷ host to host", "≥ 0.95", ratio("tcp1", "routed", "host"), atLeast(0.95),
			"each packet passes the checks of its port and the program that leads it past the host's forwarding, on both hosts."},
		{"latency p50, routed ÷ host to host", "≤ 1.1", ratio("latency", "routed", "host"), atMost(1.1), "the same."},
	}
}

func scaleBars() []bar {
	at := func(figure, row string) func(lookup) float64 {
		return func(l lookup) float64 { return l.value(figure, row, "value", 0.5) }
	}
	return []bar{
		{"attach with 50,000 addresses in the pool and 10,000 endpoints on the network ÷ an empty one", "≤ 1.5", at("full-ratio", "full"), atMost(1.5), ""},
		{"one change on a network of 100,000 endpoints, agent CPU", "≤ 1 ms", at("change-cpu", "100,000 endpoints"), atMost(1), ""},
		{"convergence at 100 hosts, p99", "≤ 100 ms", at("convergence-p99", "100 hosts"), atMost(100), ""},
		{"convergence at 1,000 hosts, p99", "≤ 500 ms", at("convergence-p99", "1000 hosts"), atMost(500), ""},
		{"cold start at 1,000 hosts", "≤ 5 s", at("cold-start", "1000 hosts"), atMost(5), ""},
		{"memory after it", "≤ 100 MiB", at("cold-memory", "1000 hosts"), atMost(100), ""},
		{"idle agent with 200 networks, etcd requests a minute", "≤ 10", at("idle-requests", "200 networks"), atMost(10), ""},
		{"idle agent with 200 networks, share of a core", "≤ 1 %", at("idle-cpu", "200 networks"), atMost(1), ""},
		{"cold Apply of 10,000 peers", "≤ 0.5 s", at("apply-cold", "10,000 peers"), atMost(0.5), ""},
	}
}

func (p *page) bars(runs []*Results) {
	p.line("## Bars\n")
	for _, r := range runs {
		if r.Trial != "" {
			p.line("**From a trial run: `%s`, %s.**\n", r.Command, r.Trial)
		}
	}
	var cells [][]string
	var misses []string
	for _, b := range bars() {
		value, verdict := b.value(runs), "not measured"
		switch {
		case math.IsNaN(value):
		case b.met(value):
			verdict = "met"
		default:
			verdict = "**missed**"
			if b.next != "" {
				misses = append(misses, fmt.Sprintf("%s: %s", b.what, b.next))
			}
		}
		cells = append(cells, []string{b.what, b.limit, number(value), verdict})
	}
	p.table([]string{"", "bar", "measured", ""}, cells)
	for _, miss := range misses {
		p.line("- %s", miss)
	}
	if len(misses) > 0 {
		p.line("")
	}
}
