package doctor

import (
	"sync"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/tunnelprobe"
)

// Tunnel is how the way from one host to another answered small packets.
type Tunnel struct {
	// From and To are the hosts' keys.
	From string `json:"from"`
	To   string `json:"to"`
	// Kind tells apart several ways between two hosts: the network's mode, and its
	// encapsulation or "encrypted".
	Kind string `json:"kind"`
	// Network is the label of the network that was asked on.
	Network string `json:"network"`
	// Asked are the packets that were sent, Answered the answers that came.
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
	// RTT is the time, in nanoseconds, from a packet to its answer, as causeway sees it:
	// the shortest; zero where none came.
	RTT time.Duration `json:"rtt_ns"`
}

// kindOf says by which way a network's packets go.
func kindOf(n fabric.Network) string {
	switch {
	case n.Encrypted:
		return string(n.Mode) + " encrypted"
	case n.Tunnel != "":
		return string(n.Mode) + " " + n.Tunnel
	}
	return string(n.Mode)
}

// answers are those of the containers of one host.
type answers struct {
	asked, answered, unanswered int
	rtt                         time.Duration
}

// count takes those of one container. One that is silent beside another that answers has
// ended, or will: what it was sent is not counted.
func (a *answers) count(asked int, after time.Duration) {
	if after == 0 {
		a.unanswered += asked
		return
	}
	a.asked += asked
	a.answered++
	if a.rtt == 0 || after < a.rtt {
		a.rtt = after
	}
}

func (a *answers) tunnel(from, to string, n fabric.Network) Tunnel {
	if a.answered == 0 {
		a.asked = a.unanswered
	}
	return Tunnel{From: from, To: to, Kind: kindOf(n), Network: n.Label(), Asked: a.asked, Answered: a.answered, RTT: a.rtt}
}

// tunnelOf counts a route's answers.
func tunnelOf(from string, t trip, r route, came map[addrprobe.Station]tunnelprobe.Answer) Tunnel {
	var a answers
	for _, station := range r.to {
		a.count(came[station].Asked, came[station].After)
	}
	return a.tunnel(from, r.host, t.network)
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
