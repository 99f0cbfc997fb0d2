package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
)

// wantOne wants one finding whose cause has words in it, that is told in whole.
func wantOne(t *testing.T, found []Finding, err error, words string) Finding {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || !strings.Contains(found[0].Cause, words) {
		t.Fatalf("found %+v, want one with %q", found, words)
	}
	f := found[0]
	if f.Evidence == "" || f.Remedy == "" || f.Scope == "" || f.Severity == "" {
		t.Errorf("the finding is told in part: %+v", f)
	}
	return f
}

func wantNone(t *testing.T, found []Finding, err error) {
	t.Helper()
	if err != nil || len(found) > 0 {
		t.Fatalf("found %+v, %v; want nothing", found, err)
	}
}

// A check that hangs, and one that fails, are findings, and hide none of the others.
func TestCheckThatHangsIsAFinding(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	in := Inputs{Host: fabric.Host{Name: "h1"}, Timing: Timing{Limit: 50 * time.Millisecond}}
	in.Records = func(context.Context) (Records, error) { return Records{}, nil }
	began := time.Now()
	found := examine(t.Context(), in, []check{
		{name: "deaf", look: func(context.Context, *Inputs) ([]Finding, error) { <-release; return nil, nil }},
		{name: "slow", look: func(ctx context.Context, _ *Inputs) ([]Finding, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{name: "broken", look: func(context.Context, *Inputs) ([]Finding, error) { return nil, errors.New("no device") }},
		{name: "quick", look: func(context.Context, *Inputs) ([]Finding, error) {
			return []Finding{{Severity: Warning, Cause: "It rains."}}, nil
		}},
	}).Findings
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	want := []string{"The check deaf did not end.", "The check slow did not end.", "The check broken could not be made.", "It rains."}
	if len(found) != len(want) {
		t.Fatalf("found %+v", found)
	}
	for i, f := range found {
		if f.Cause != want[i] || f.Host != "h1" || f.Check == "" {
			t.Errorf("finding %d is %+v, want %q", i, f, want[i])
		}
	}
}

func TestEachPartsFaultHasARemedy(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for part, remedy := range remedies() {
		found, err := faults(t.Context(), &Inputs{Faults: []health.Fault{{Scope: health.Scope{Part: part}, Since: since, Text: "it is broken"}}})
		f := wantOne(t, found, err, "It is broken.")
		if f.Remedy != remedy || !strings.Contains(f.Evidence, "2026-01-02 03:04:05") {
			t.Errorf("%s: %+v", part, f)
		}
	}
}

// Packets of long ago are no finding.
func TestOnlyFreshDropsAreFound(t *testing.T) {
	count := uint64(7)
	in := &Inputs{Timing: Timing{Again: time.Millisecond}, Drops: func() ([]hostfilter.Drop, error) {
		return []hostfilter.Drop{{Reason: "by a stranger", Packets: count, Remedy: "Find it."}}, nil
	}}
	found, err := drops(t.Context(), in)
	wantNone(t, found, err)
	in.Drops = func() ([]hostfilter.Drop, error) {
		count += 3
		return []hostfilter.Drop{{Reason: "by a stranger", Packets: count, Remedy: "Find it."}}, nil
	}
	found, err = drops(t.Context(), in)
	if f := wantOne(t, found, err, "drops packets by a stranger"); !strings.HasPrefix(f.Evidence, "3 in 1ms, 13 since") {
		t.Error(f.Evidence)
	}
}
