package ui

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
)

const (
	tunnelsKind  = "tunnels/"  // by the hosts' keys and the kind of way: FROM/TO/KIND
	findingsKind = "findings/" // by what they say
	doctorKey    = "doctor"
	// kept is of how many examinations a tunnel's loss is counted.
	kept = 20
)

// Tunnel is the way from one host to another as the page shows it.
type Tunnel struct {
	Network string `json:"network"` // the label of the one that was asked on
	// RTT is that of the last examination, in microseconds; 0: no answer came.
	RTT float64 `json:"rtt_us"`
	// Asked and Answered are packets of the last examinations.
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
}

// Doctor says how the last examination went.
type Doctor struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// examiner asks doctor, and remembers how the tunnels were.
type examiner struct {
	source Source
	hub    *hub
	tried  map[string][]doctor.Tunnel // the last ones, by FROM/TO/KIND
}

// examine asks all hosts once. Without an answer what was found last stays.
func (e *examiner) examine(ctx context.Context) {
	d, err := e.source.Doctor(ctx, agent.Whom{All: true, Talk: true})
	told := Doctor{At: time.Now().UTC()}
	if err != nil {
		told.Error = err.Error()
		e.hub.put(doctorKey, told)
		return
	}
	e.take(d)
	e.hub.put(doctorKey, told)
}

func (e *examiner) take(d doctor.Diagnosis) {
	findings := make(map[string]any, len(d.Findings))
	for _, finding := range d.Findings {
		findings[nameOf(finding)] = finding
	}
	e.hub.replace(findingsKind, findings)
	e.hub.replace(talkThereKind, shownTalk(d.Talk))
	tried, tunnels := make(map[string][]doctor.Tunnel, len(d.Tunnels)), make(map[string]any, len(d.Tunnels))
	for _, tunnel := range d.Tunnels {
		key := tunnel.From + "/" + tunnel.To + "/" + tunnel.Kind
		last := append(e.tried[key], tunnel)
		last = last[max(0, len(last)-kept):]
		tried[key], tunnels[key] = last, shown(last)
	}
	e.tried = tried
	e.hub.replace(tunnelsKind, tunnels)
}

// shown sums up a tunnel's examinations; the last is its state.
func shown(last []doctor.Tunnel) Tunnel {
	now := last[len(last)-1]
	t := Tunnel{Network: now.Network, RTT: rough(float64(now.RTT) / 1e3)}
	for _, each := range last {
		t.Asked += each.Asked
		t.Answered += each.Answered
	}
	return t
}

// rough keeps two digits: a change of less is none.
func rough(value float64) float64 {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 2, 64), 64)
	if err != nil { // no number
		return 0
	}
	return rounded
}

// nameOf is the same for what is found again, whatever shows it this time.
func nameOf(f doctor.Finding) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Host, f.Check, f.Scope, f.Cause}, "\x00")))
	return hex.EncodeToString(sum[:8])
}
