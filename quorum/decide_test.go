package quorum

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/kvstore"
)

// world is a cluster in which steps take effect as etcd and the hosts have them.
type world struct {
	state
	next uint64
}

func newWorld() *world {
	w := &world{state: state{hosts: []host{{name: "h0", wish: Auto, alive: true, peer: "peer h0", holds: true}}}}
	w.members = []kvstore.StoreMember{{ID: 1, Name: "h0", Peer: "peer h0"}}
	w.next, w.leader = 2, 1
	return w
}

func (w *world) at(name string) *host {
	i := slices.IndexFunc(w.hosts, func(h host) bool { return h.name == name })
	if i < 0 {
		return nil
	}
	return &w.hosts[i]
}

// quorate says whether a majority of the voters is alive.
func (w *world) quorate() bool {
	alive := 0
	for _, m := range w.voters() {
		if h := w.at(m.Name); h != nil && h.alive {
			alive++
		}
	}
	return alive > len(w.voters())/2
}

// settle takes all steps until there is none. Hosts that were asked join and start
// as soon as they live; a leader that dies is followed by another.
func (w *world) settle(t *rapid.T) {
	for range 200 {
		if !w.quorate() {
			return // nothing can be changed
		}
		w.elect()
		w.join()
		next := decide(w.state)
		if next.kind == none {
			return
		}
		w.take(t, next)
		if !w.quorate() {
			t.Fatalf("step %+v lost the quorum: %+v", next, w.state)
		}
	}
	t.Fatalf("it never settles: %+v, next %+v", w.state, decide(w.state))
}

func (w *world) elect() {
	for _, m := range w.voters() {
		if h := w.at(m.Name); h != nil && h.alive {
			w.leader = m.ID
			return
		}
	}
}

func (w *world) join() {
	for i := range w.hosts {
		h := &w.hosts[i]
		if h.alive && h.holds && !slices.ContainsFunc(w.members, func(m kvstore.StoreMember) bool { return m.Peer == h.peer }) {
			w.members = append(w.members, kvstore.StoreMember{ID: w.next, Name: h.name, Peer: h.peer, Learner: true})
			w.next++
		}
	}
}

func (w *world) take(t *rapid.T, next step) {
	switch next.kind {
	case ask:
		w.at(next.host).holds = true
	case dismiss:
		w.at(next.host).holds = false
	case promote:
		i := slices.IndexFunc(w.members, func(m kvstore.StoreMember) bool { return m.ID == next.member.ID })
		w.members[i].Learner = false
	case remove:
		if next.member.ID == w.leader {
			t.Fatalf("the leader was removed: %+v", w.state)
		}
		w.members = slices.DeleteFunc(w.members, func(m kvstore.StoreMember) bool { return m.ID == next.member.ID })
	}
}

// Whatever hosts come, die, return and are released, no step loses the quorum; and
// when all live, the voters are odd, as many as the hosts warrant.
func TestMembersFollowTheHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for n := range rapid.IntRange(1, 30).Draw(t, "events") {
			some := rapid.SampledFrom(w.hosts).Draw(t, "host")
			switch rapid.SampledFrom([]string{"come", "come", "die", "return", "release", "wish"}).Draw(t, "event") {
			case "come":
				name := fmt.Sprint("h", n+1)
				w.hosts = append(w.hosts, host{name: name, wish: rapid.SampledFrom([]Wish{Auto, Auto, Auto, Yes, No}).Draw(t, "wish"), alive: true, peer: "peer " + name})
			case "die":
				w.at(some.name).alive = false
				if !w.quorate() {
					w.at(some.name).alive = true // a lost majority is for restore, not for this
				}
			case "return":
				w.at(some.name).alive = true
			case "release":
				if !some.alive {
					w.hosts = slices.DeleteFunc(w.hosts, func(h host) bool { return h.name == some.name })
				}
			case "wish":
				w.at(some.name).wish = rapid.SampledFrom([]Wish{Auto, Yes, No}).Draw(t, "wish")
			}
			w.settle(t)
		}
		for i := range w.hosts {
			w.hosts[i].alive = true
			w.hosts[i].wish = Auto
		}
		w.settle(t)
		n := len(w.hosts)
		want := map[bool]int{true: 5, false: 3}[n >= 7]
		if n < 3 {
			want = 1
		}
		// Hosts that hold the store already keep it: there may be more of them.
		if got := len(w.voters()); got%2 == 0 || got < want {
			t.Fatalf("%d hosts have %d voters, want %d: %+v", n, got, want, w.state)
		}
	})
}

func TestDecide(t *testing.T) {
	hosts := func(names ...string) (all []host) {
		for _, name := range names {
			all = append(all, host{name: name, wish: Auto, alive: true, peer: "peer " + name, holds: true})
		}
		return all
	}
	member := func(id uint64, name string, learner bool) kvstore.StoreMember {
		return kvstore.StoreMember{ID: id, Name: name, Peer: "peer " + name, Learner: learner}
	}
	for name, test := range map[string]struct {
		s    state
		want step
	}{
		"alone": {state{hosts("a"), []kvstore.StoreMember{member(1, "a", false)}, 1}, step{}},
		"a second host learns and does not vote": {
			state{hosts("a", "b"), []kvstore.StoreMember{member(1, "a", false), member(2, "b", true)}, 1}, step{},
		},
		"two learners get their votes": {
			state{hosts("a", "b", "c"), []kvstore.StoreMember{member(1, "a", false), member(2, "b", true), member(3, "c", true)}, 1},
			step{kind: promote, member: member(2, "b", true)},
		},
		"the second of them": {
			state{hosts("a", "b", "c"), []kvstore.StoreMember{member(1, "a", false), member(2, "b", false), member(3, "c", true)}, 1},
			step{kind: promote, member: member(3, "c", true)},
		},
		"a released host's member goes": {
			state{hosts("a", "b"), []kvstore.StoreMember{member(1, "a", false), member(2, "b", false), member(3, "c", false)}, 1},
			step{kind: remove, member: member(3, "c", false)},
		},
		"of two voters one goes": {
			state{hosts("a", "b"), []kvstore.StoreMember{member(1, "a", false), member(2, "b", false)}, 1},
			step{kind: remove, member: member(2, "b", false)},
		},
	} {
		if got := decide(test.s); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
