package engines

import (
	"context"
	"time"

	"github.com/causeway-net/causeway/test/bench/report"
)

// attempt is one measure of one row in one round.
type attempt struct {
	*stand
	round   int
	seconds int // of each test of traffic
	repeat  int // of what takes less than a second
	figures map[string]*report.Figure
}

func (a *attempt) add(figure, column string, value float64) {
	a.figures[figure].Add(a.name, column, a.round, value)
}

// measure gives values of one or more figures, the first of which takes its failures.
type measure struct {
	kind    string // of the rows that have it
	limit   time.Duration
	figures []string
	take    func(context.Context, *attempt) error
}

// measures are taken in this order in each round.
func measures(short bool) []measure {
	bursts := func(containers int, figure string) measure {
		return measure{starts, 3 * time.Minute, []string{figure, "handlers-burst"}, func(ctx context.Context, a *attempt) error {
			return burst(ctx, a, containers)
		}}
	}
	streams := func(n int, figures ...string) measure {
		return measure{traffic, 30 * time.Second, figures, func(ctx context.Context, a *attempt) error { return tcp(ctx, a, n) }}
	}
	all := []measure{
		streams(1, "tcp1", "cpu"),
		streams(4, "tcp4"),
		{traffic, 30 * time.Second, []string{"udp"}, udp},
		{traffic, 30 * time.Second, []string{"latency"}, latency},
		{traffic, 30 * time.Second, []string{"connects"}, connects},
		{starts, time.Minute, []string{"run", "handlers"}, oneAfterAnother},
		{starts, time.Minute, []string{"run-first"}, firstOnHost},
		{starts, time.Minute, []string{"connect"}, connecting},
		{reach, time.Minute, []string{"reach"}, reaching},
		{causeway, time.Minute, []string{"etcd-requests", "etcd-bytes", "answer"}, attaching},
		bursts(30, "burst30"),
	}
	if !short {
		all = append(all, bursts(50, "burst50"))
	}
	return append(all, measure{causeway, time.Minute, []string{"memory"}, memory})
}

// wants says that a row has a measure.
func (m measure) wants(r row) bool {
	switch m.figures[0] {
	case "run-first":
		return r.has(starts) && r.create != nil && !r.noFirst
	case "connect":
		return r.has(starts) && r.name != "none"
	}
	return r.has(m.kind)
}

// sections are the figures, empty, as they stand in the report.
func sections() []report.Section {
	perCall := append(handlers(), both)
	return []report.Section{
		{ID: "traffic", Title: "Traffic between two hosts", Intro: "From a container on the first host to one on the second.", Figures: []*report.Figure{
			{ID: "tcp1", Title: "TCP, one stream", Unit: "Gbit/s", How: "`iperf3`.", HigherIsBetter: true, Columns: []string{"Gbit/s"}, Base: "host"},
			{ID: "cpu", Title: "Processor time for a gigabit", Unit: "ms of a core", How: "Of the whole machine during that stream: both hosts and both ends. Smaller is better.", Columns: []string{"CPU ms"}, Base: "host"},
			{ID: "tcp4", Title: "TCP, four streams", Unit: "Gbit/s", How: "`iperf3 -P 4`. Four streams and their receivers share this machine's processors.", HigherIsBetter: true, Columns: []string{"Gbit/s"}, Base: "host"},
			{ID: "udp", Title: "UDP, packets of 64 bytes", Unit: "packets/s", How: "`iperf3 -u -b 0 -l 64`: as fast as one sender can.", HigherIsBetter: true, Columns: []string{"received/s", "sent/s", "lost, %"}, Base: "host"},
			{ID: "latency", Title: "TCP request and response", Unit: "µs, round trip", How: "`sockperf ping-pong --tcp --full-rtt`, 64 bytes on one connection. Smaller is better.", Columns: []string{"p50", "p90", "p99", "p99.9"}, Base: "host"},
			{ID: "connects", Title: "TCP connections", Unit: "connections/s", How: "One after the other: connect, a byte there and back, close.", HigherIsBetter: true, Columns: []string{"connections/s"}, Base: "host"},
		}},
		{ID: "starts", Title: "Starting and connecting containers", Intro: "On the first host, with the standing containers there. Smaller is better.", Figures: []*report.Figure{
			{ID: "run", Title: "docker run --rm … true", Unit: "ms", How: "One after the other, on a network that another container of the host is on.", Columns: []string{"ms"}, Base: "none", Over: true},
			{ID: "run-first", Title: "docker run --rm … true, the only container of its network here", Unit: "ms", How: "The network's devices are made and removed each time.", Columns: []string{"ms"}},
			{ID: "connect", Title: "docker network connect", Unit: "ms", How: "And `disconnect`, of a running container.", Columns: []string{"connect, ms", "disconnect, ms"}},
			{ID: "burst30", Title: "30 containers at once", Unit: "s", How: "30 `docker run --rm … true`, until the last has ended.", Columns: []string{"s"}, Base: "none", Over: true},
			{ID: "burst50", Title: "50 containers at once", Unit: "s", Columns: []string{"s"}, Base: "none", Over: true},
			{ID: "reach", Title: "Until the other host answers a new container", Unit: "ms", How: "The container sends a UDP packet each millisecond from its process's first moment on.", Columns: []string{"from docker run, ms", "from its process's start, ms"}},
		}},
		{ID: "own", Title: "causeway's own part", Intro: "The store is the closed cluster's own: etcd in the first host's process, over TLS.", Figures: []*report.Figure{
			{ID: "handlers", Title: "Each call, containers one after the other", Unit: "ms, p50 / p99", How: "As causeway's log tells it, while `docker run` is measured above.", Quantiles: true, Columns: append([]string{both}, handlers()...)},
			{ID: "handlers-burst", Title: "Each call, 30 and 50 containers at once", Unit: "ms, p50 / p99", Quantiles: true, Columns: handlers()},
			{ID: "answer", Title: "From Join's answer to the first packet that the other host answered", Unit: "ms", How: "The calls are made as the engine makes them, without it: the link is moved and given its address here.", Columns: []string{"from Join's answer, ms", "of it the link's move into the container, ms"}},
			{ID: "etcd-requests", Title: "Requests to etcd", Unit: "requests", How: "Of all hosts while each call was answered, as the server counts them; not what comes by watches.", Columns: perCall},
			{ID: "etcd-bytes", Title: "Bytes to and from etcd", Unit: "bytes", How: "The same; with what the watches of both hosts bring.", Columns: perCall},
			{ID: "memory", Title: "Memory of causeway's process", Unit: "MiB resident", How: "After each round; the first host's has the store in it.", Columns: []string{"h1, MiB", "h2, MiB"}},
		}},
	}
}
