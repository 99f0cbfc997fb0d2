package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// h1 asks: h2 answers by a clock that is an hour fast, h3 lives and does not, h4 is dead.
func TestRoundAsksEveryHostThatLives(t *testing.T) {
	store := storetest.New(t)
	put := func(ops ...kvstore.Op) {
		t.Helper()
		if _, err := store.Commit(t.Context(), kvstore.Txn{Then: ops}); err != nil {
			t.Fatal(err)
		}
	}
	put(kvstore.Put(records.AliveKey("h1"), records.Alive{}), kvstore.Put(records.AliveKey("h2"), records.Alive{}), kvstore.Put(records.AliveKey("h3"), records.Alive{}),
		kvstore.Put(records.DoctorAsksPrefix+"crashed", asked{Host: "h9", At: time.Now().Add(-time.Hour)}), kvstore.Put(records.DoctorAnswers("crashed")+"h2", answer{}))
	fast := Rounds{
		Store: store, Host: "h2", Now: func() time.Time { return time.Now().Add(time.Hour) },
		Examine: func(context.Context) Diagnosis {
			return Diagnosis{Findings: []Finding{{Host: "h2", Cause: "It rains."}}, Tunnels: []Tunnel{{From: "h2", To: "h1", Asked: 2, Answered: 1}}}
		},
		Talk: func(context.Context) ([]talk.Conversation, error) { return make([]talk.Conversation, 2*mostTalk), nil },
	}
	answering(t, fast)
	d, err := Rounds{Store: store, Host: "h1", Limit: 2 * time.Second, AskTalk: true}.Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := d.Findings
	if len(d.Tunnels) != 1 || d.Tunnels[0].From != "h2" || d.Tunnels[0].Asked != 2 {
		t.Errorf("the tunnels are %+v", d.Tunnels)
	}
	if len(d.Talk) != mostTalk {
		t.Errorf("%d conversations are told", len(d.Talk))
	}
	if want := []string{"host/h3"}; !slices.Equal(found[2].About, want) {
		t.Errorf("it is about %q", found[2].About)
	}
	var causes []string
	for _, f := range found {
		causes = append(causes, f.Cause)
	}
	want := []string{"It rains.", "The clock of host h2 is ahead of that of host h1.", "The causeway of host h3 lives, and does not say how it is."}
	if !slices.Equal(causes, want) {
		t.Errorf("found %q, want %q", causes, want)
	}
	if !strings.HasPrefix(found[1].Evidence, "its answer is stamped 1h0m0s away") && !strings.HasPrefix(found[1].Evidence, "its answer is stamped 59m59") {
		t.Error(found[1].Evidence)
	}
	for _, prefix := range []string{records.DoctorAsksPrefix, records.DoctorAnswersPrefix} {
		left, err := store.List(t.Context(), prefix)
		if err != nil || len(left.Items) > 0 {
			t.Errorf("%v is left, %v", left.Items, err)
		}
	}
}

// answering has a host answer until the test's end, and waits until it follows.
func answering(t *testing.T, r Rounds) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Answer(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	probe := Rounds{Store: r.Store, Host: "probe", Limit: 300 * time.Millisecond}
	await.Within(t, 10*time.Second, r.Host+" answers", func() error {
		found, err := probe.Ask(t.Context())
		for _, f := range found.Findings {
			if f.Check == "round" && f.Host == r.Host {
				err = errors.New(f.Cause)
			}
		}
		return err
	})
}
