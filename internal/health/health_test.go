package health

import (
	"errors"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

func TestBoardLogsAFaultOnceAndItsRecoveryOnce(t *testing.T) {
	log, hook := test.NewNullLogger()
	board := New(logrus.NewEntry(log))
	scope := Scope{Network, "n1"}
	for _, err := range []error{nil, errors.New("no device"), errors.New("no device"), errors.New("no route"), nil, nil} {
		board.Report(scope, err)
	}
	want := []string{"no device", "no route", "recovered: no route"}
	if got := hook.AllEntries(); len(got) != len(want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	for i, entry := range hook.AllEntries() {
		if entry.Message != want[i] {
			t.Errorf("entry %d: %q, want %q", i, entry.Message, want[i])
		}
	}
}

func TestBoardListsWhatIsWrongNow(t *testing.T) {
	log, _ := test.NewNullLogger()
	board := New(logrus.NewEntry(log))
	board.Report(Scope{Network, "n2"}, errors.New("two"))
	board.Report(Scope{Network, "n1"}, errors.New("one"))
	board.Report(Scope{Part: Engine}, errors.New("away"))
	since := board.Faults()[1].Since
	board.Report(Scope{Network, "n1"}, errors.New("one again"))
	if got := board.Faults()[1]; got.Text != "one again" || got.Since != since {
		t.Errorf("a fault that goes on is %+v, since %v", got, since)
	}
	board.Retain(Network, func(object string) bool { return object == "n2" })
	var texts []string
	for _, fault := range board.Faults() {
		texts = append(texts, fault.Text)
	}
	if len(texts) != 2 || texts[0] != "away" || texts[1] != "two" {
		t.Errorf("faults are %q", texts)
	}
}
