package ui

import (
	"context"
	"math"
	"time"

	"github.com/causeway-net/causeway/agent"
)

const (
	trafficKind = "traffic/" // by network
	ratesKind   = "rates/"   // of this host's containers that are not idle, by network and endpoint
	hereKey     = "here"
	// meterEvery is how often counters are read while a page is open.
	meterEvery = 2 * time.Second
)

// Traffic is how much passes the device of a network, or of a container, on the agent's
// host in a second.
type Traffic struct {
	ReceivedBytes   float64 `json:"received_bytes"`
	ReceivedPackets float64 `json:"received_packets"`
	SentBytes       float64 `json:"sent_bytes"`
	SentPackets     float64 `json:"sent_packets"`
}

// Here says which host the page is of, by its key.
type Here struct {
	Host string `json:"host"`
}

// meter makes rates of counters.
type meter struct {
	source Source
	hub    *hub
	last   agent.Traffic
	at     time.Time
}

// read reads the counters once. What cannot be read has no rate.
func (m *meter) read(ctx context.Context) {
	now, err := m.source.Traffic(ctx)
	if err != nil {
		m.take(agent.Traffic{}, time.Now())
		return
	}
	m.hub.put(hereKey, Here{now.Host})
	m.take(now, time.Now())
}

func (m *meter) take(now agent.Traffic, at time.Time) {
	passed := at.Sub(m.at)
	if passed > 5*meterEvery { // nobody looked meanwhile
		m.last = agent.Traffic{}
	}
	m.hub.replace(trafficKind, rates(m.last.Networks, now.Networks, passed, true))
	m.hub.replace(ratesKind, rates(m.last.Containers, now.Containers, passed, false))
	m.last, m.at = now, at
}

// rates are those of what was counted before and now, after a time that is not zero. Those
// of what is idle are left out where idle is false: most containers are.
func rates(before, now map[string]agent.Counters, passed time.Duration, idle bool) map[string]any {
	all := make(map[string]any, len(before))
	for key, counters := range now {
		was, known := before[key]
		if !known {
			continue
		}
		seconds := passed.Seconds()
		t := Traffic{
			rate(was.ReceivedBytes, counters.ReceivedBytes, seconds), rate(was.ReceivedPackets, counters.ReceivedPackets, seconds),
			rate(was.SentBytes, counters.SentBytes, seconds), rate(was.SentPackets, counters.SentPackets, seconds),
		}
		if idle || t != (Traffic{}) {
			all[key] = t
		}
	}
	return all
}

// rate is in units a second; a counter that went back is of a device that was recreated.
func rate(before, now uint64, seconds float64) float64 {
	if now < before {
		return 0
	}
	return math.Round(float64(now-before) / seconds)
}
