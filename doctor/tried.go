package doctor

import (
	"sync"
	"time"

	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/tunnelprobe"
)

// Tunnel is how the way from one host to another answered small frames.
type Tunnel struct {
	// From and To are the hosts' keys; Network is the label of the one that was asked on.
	From      string `json:"from"`
	To        string `json:"to"`
	Network   string `json:"network"`
	Encrypted bool   `json:"encrypted,omitempty"`
	// Asked are the frames that were sent, Answered the answers that came.
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
	// RTT is the time, in nanoseconds, from a frame to its answer, as causeway sees it:
	// the shortest; zero where none came.
	RTT time.Duration `json:"rtt_ns"`
}

// tunnelOf counts a route's answers. A container that is silent beside one that answers
// has ended, or will: its frames are not counted.
func tunnelOf(from string, t trip, r route, answers map[addrprobe.Station]tunnelprobe.Answer) Tunnel {
	tunnel := Tunnel{From: from, To: r.host, Network: r.label, Encrypted: t.encrypted}
	unanswered := 0
	for _, station := range r.to {
		answer := answers[station]
		if answer.After == 0 {
			unanswered += answer.Asked
			continue
		}
		tunnel.Asked += answer.Asked
		tunnel.Answered++
		if tunnel.RTT == 0 || answer.After < tunnel.RTT {
			tunnel.RTT = answer.After
		}
	}
	if tunnel.Answered == 0 {
		tunnel.Asked = unanswered
	}
	return tunnel
}

// tried are the tunnels of one examination; nil takes none.
type tried struct {
	mu      sync.Mutex // guards tunnels
	tunnels []Tunnel
}

func (t *tried) add(tunnel Tunnel) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tunnels = append(t.tunnels, tunnel)
}

// all is a copy: a check that is late goes on.
func (t *tried) all() []Tunnel {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]Tunnel{}, t.tunnels...)
}
