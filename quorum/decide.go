package quorum

import (
	"cmp"
	"slices"

	"github.com/causeway-net/causeway/kvstore"
)

// Wish is what a host's user says about holding the store (--store-member).
type Wish string

// The wishes. A host that is not asked holds it where it is needed.
const (
	Auto Wish = "auto"
	Yes  Wish = "yes"
	No   Wish = "no"
)

// host is one host of the cluster.
type host struct {
	name  string
	wish  Wish
	alive bool
	// peer is the URL that its member has or would have.
	peer string
	// holds says that it was asked to hold the store.
	holds bool
}

// state is what is known at one time.
type state struct {
	hosts   []host
	members []kvstore.StoreMember
	// leader is the ID of the member that leads.
	leader uint64
}

// step is one change of the store's membership.
type step struct {
	kind kind
	// host is that of ask and dismiss, member that of promote and remove.
	host   string
	member kvstore.StoreMember
}

type kind int

const (
	none    kind = iota
	ask          // a host to hold the store
	dismiss      // a host that was asked
	promote      // a learner to a voter
	remove       // a member
)

// How many members a cluster has: one that is alone or with a learner, three of
// three hosts on, five of seven hosts on. More would make each write slower.
func membersFor(hosts int) int {
	switch {
	case hosts >= 7:
		return 5
	case hosts >= 3:
		return 3
	}
	return hosts
}

// decide gives the next step, the zero step when nothing is to be done. Each step
// is safe by itself: it never leaves fewer voters alive than a majority.
func decide(s state) step {
	for _, find := range []func(state) (step, bool){dismissed, abandoned, asked, promoted, evened} {
		if next, ok := find(s); ok {
			return next
		}
	}
	return step{}
}

func (s state) host(name string) (host, bool) {
	i := slices.IndexFunc(s.hosts, func(h host) bool { return h.name == name })
	if i < 0 {
		return host{name: name}, false
	}
	return s.hosts[i], true
}

// of gives the host of a member: by name, or by peer URL while it has not started.
func (s state) of(m kvstore.StoreMember) (host, bool) {
	if m.Name != "" {
		return s.host(m.Name)
	}
	i := slices.IndexFunc(s.hosts, func(h host) bool { return h.peer == m.Peer })
	if i < 0 {
		return host{}, false
	}
	return s.hosts[i], true
}

func (s state) voters() (voters []kvstore.StoreMember) {
	for _, m := range s.members {
		if !m.Learner {
			voters = append(voters, m)
		}
	}
	return voters
}

// candidates are the hosts that may hold the store, those first that do already
// or want to.
func (s state) candidates() []host {
	var found []host
	for _, h := range s.hosts {
		if h.wish != No && (h.alive || h.holds) {
			found = append(found, h)
		}
	}
	rank := func(h host) int {
		switch {
		case h.holds:
			return 0
		case h.wish == Yes:
			return 1
		}
		return 2
	}
	slices.SortFunc(found, func(a, b host) int { return cmp.Or(rank(a)-rank(b), cmp.Compare(a.name, b.name)) })
	return found
}

// wanted is how many hosts are to hold the store.
func (s state) wanted() int {
	candidates := s.candidates()
	eager := 0
	for _, h := range candidates {
		if h.wish == Yes {
			eager++
		}
	}
	return max(membersFor(len(candidates)), eager)
}

// dismissed finds a host that was asked and does not want any more.
func dismissed(s state) (step, bool) {
	for _, h := range s.hosts {
		if h.holds && h.wish == No {
			return step{kind: dismiss, host: h.name}, true
		}
	}
	return step{}, false
}

// abandoned finds a member whose host is gone for good or was dismissed, and one
// that never started.
func abandoned(s state) (step, bool) {
	for _, m := range s.members {
		h, known := s.of(m)
		if known && h.holds && (m.Name != "" || h.alive) || m.ID == s.leader {
			continue
		}
		if s.mayLose(m) {
			return step{kind: remove, member: m}, true
		}
	}
	return step{}, false
}

// mayLose says whether a majority of the voters that are left is alive.
func (s state) mayLose(gone kvstore.StoreMember) bool {
	if gone.Learner {
		return true
	}
	left, alive := 0, 0
	for _, m := range s.voters() {
		if m.ID == gone.ID {
			continue
		}
		left++
		if h, known := s.of(m); known && h.alive {
			alive++
		}
	}
	return alive > left/2
}

// asked finds a host to ask where too few hold the store.
func asked(s state) (step, bool) {
	candidates := s.candidates()
	for _, h := range candidates[:min(s.wanted(), len(candidates))] {
		if !h.holds {
			return step{kind: ask, host: h.name}, true
		}
	}
	return step{}, false
}

// promoted finds a learner to get a vote: two after the other where the voters
// are odd in number, one where they are even.
func promoted(s state) (step, bool) {
	var ready []kvstore.StoreMember
	for _, m := range s.members {
		if h, known := s.of(m); m.Learner && m.Name != "" && known && h.alive && h.holds {
			ready = append(ready, m)
		}
	}
	needed := 1 + len(s.voters())%2
	if len(ready) < needed || len(s.voters())+needed > s.wanted() {
		return step{}, false
	}
	return step{kind: promote, member: ready[0]}, true
}

// evened finds a voter to go where their number stays even: a second voter makes
// a store less sure, not more. Its host is asked still, and joins as a learner.
func evened(s state) (step, bool) {
	if len(s.voters())%2 != 0 {
		return step{}, false
	}
	for _, h := range s.hosts {
		if h.holds && !slices.ContainsFunc(s.members, func(m kvstore.StoreMember) bool { return m.Name == h.name }) {
			return step{}, false // it is on its way
		}
	}
	for _, m := range s.voters() {
		if m.ID != s.leader && s.mayLose(m) {
			return step{kind: remove, member: m}, true
		}
	}
	return step{}, false
}
