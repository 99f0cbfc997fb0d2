package reconcile

import (
	"slices"
	"testing"
	"time"
)

func TestScheduleOrder(t *testing.T) {
	const coalesce = 20 * time.Millisecond
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	s := newSchedule(coalesce)
	drain := func(ms int) (order []string) {
		for {
			id, _ := s.next(at(ms), time.Minute)
			if id == "" {
				return order
			}
			s.take(at(ms), id)
			order = append(order, id)
		}
	}
	for i, id := range []string{"a", "b", "c"} { // a resync, spread
		s.markAt(at(10*i), id)
	}
	s.hurry(at(0), "z") // a Join
	if got := drain(0); !slices.Equal(got, []string{"z", "a"}) {
		t.Errorf("at 0 ms: %v", got)
	}
	s.mark(at(5), "a")
	s.mark(at(6), "a")
	s.mark(at(6), "new")
	if got := drain(10); !slices.Equal(got, []string{"new", "b"}) {
		t.Errorf("at 10 ms, where a was just applied: %v", got)
	}
	if _, wait := s.next(at(10), time.Minute); wait != 10*time.Millisecond {
		t.Errorf("a and c are due in %v", wait)
	}
	s.hurry(at(11), "a")
	if got := drain(11); !slices.Equal(got, []string{"a"}) {
		t.Errorf("a Join waits for a: %v", got)
	}
	if got := drain(20); !slices.Equal(got, []string{"c"}) {
		t.Errorf("at 20 ms: %v", got)
	}
	s.mark(at(30), "a")
	s.forget("a")
	if id, wait := s.next(at(30), time.Minute); id != "" || wait != time.Minute {
		t.Errorf("nothing is dirty: %q, %v", id, wait)
	}
}
