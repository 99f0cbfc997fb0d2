package ui

import (
	"context"
	"math"
	"time"

	"github.com/causeway-net/causeway/agent"
)

const (
	trafficKind = "traffic/" // by network
	hereKey     = "here"
	// meterEvery is how often counters are read while a page is open.
	meterEvery = 2 * time.Second
)

// Traffic is how much passes the device of a network on the agent's host, in a second.
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
	last   map[string]agent.Counters
	at     time.Time
}

// read reads the counters once. What cannot be read has no rate.
func (m *meter) read(ctx context.Context) {
	now, err := m.source.Traffic(ctx)
	if err != nil {
		m.last = nil
		m.hub.replace(trafficKind, nil)
		return
	}
	m.hub.put(hereKey, Here{now.Host})
	m.take(now.Networks, time.Now())
}

func (m *meter) take(now map[string]agent.Counters, at time.Time) {
	seconds := at.Sub(m.at).Seconds()
	rates := make(map[string]any, len(now))
	for network, counters := range now {
		before, known := m.last[network]
		if known && seconds > 0 && seconds < 5*meterEvery.Seconds() {
			rates[network] = Traffic{
				rate(before.ReceivedBytes, counters.ReceivedBytes, seconds), rate(before.ReceivedPackets, counters.ReceivedPackets, seconds),
				rate(before.SentBytes, counters.SentBytes, seconds), rate(before.SentPackets, counters.SentPackets, seconds),
			}
		}
	}
	m.last, m.at = now, at
	m.hub.replace(trafficKind, rates)
}

// rate is in units a second; a counter that went back is of a device that was made anew.
func rate(before, now uint64, seconds float64) float64 {
	if now < before {
		return 0
	}
	return math.Round(float64(now-before) / seconds)
}
