package grace

import (
	"slices"
	"testing"
	"time"
)

func TestTracker(t *testing.T) {
	start := time.Unix(0, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	var tracker Tracker[string]
	for _, step := range []struct {
		second    int
		seen, due []string
	}{
		{0, []string{"a", "b"}, nil},
		{5, []string{"a", "b"}, nil},
		{10, []string{"a", "a"}, []string{"a"}}, // b was not seen
		{20, []string{"a", "b"}, []string{"a"}},
		{29, []string{"b"}, nil},
		{30, []string{"b"}, []string{"b"}},
		{31, nil, nil},
	} {
		if got := tracker.Observe(at(step.second), step.seen, 10*time.Second); !slices.Equal(got, step.due) {
			t.Errorf("at %d s: due %v, want %v", step.second, got, step.due)
		}
	}
	if tracker.Len() != 0 {
		t.Errorf("%d are left", tracker.Len())
	}
}

// Without a grace time the first look still judges nothing.
func TestTrackerFirstLook(t *testing.T) {
	var tracker Tracker[int]
	if due := tracker.Observe(time.Now(), []int{1}, 0); len(due) > 0 {
		t.Errorf("due at the first look: %v", due)
	}
}
