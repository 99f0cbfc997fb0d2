package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// A round asks the doctors of all hosts. The question is a record, which every host's agent
// follows; each writes its answer beside it, and who asked takes all of them away.

const (
	roundLimit = 4500 * time.Millisecond // a host's own checks end by then
	clocks     = 2 * time.Second         // that far apart clocks are told of
	// A record is bounded: of one host are told so many
	mostTold    = 50  // findings
	mostTunnels = 250 // tunnels
	mostTalk    = 50  // and conversations
)

// Rounds are one host's part in them.
type Rounds struct {
	Store kvstore.Store
	// Host is this host's key.
	Host string
	// Examine runs this host's own checks.
	Examine func(ctx context.Context) Diagnosis
	// Talk measures who talks to whom on this host; without AskTalk it is not asked for.
	Talk    func(ctx context.Context) ([]talk.Conversation, error)
	AskTalk bool
	// Now is the clock; nil means this host's.
	Now func() time.Time
	// Limit is how long answers are waited for (4.5 s).
	Limit time.Duration
}

func (r Rounds) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r Rounds) questions() records.Questions[asked] {
	return records.Questions[asked]{
		Store: r.Store, Asks: records.DoctorAsksPrefix, Answers: records.DoctorAnswers, At: func(q asked) time.Time { return q.At },
	}
}

// asked is a question.
type asked struct {
	Host string    `json:"host"`
	At   time.Time `json:"at"`
	Talk bool      `json:"talk,omitempty"`
}

// answer is a host's.
type answer struct {
	Diagnosis
	// At is the host's clock as it writes.
	At time.Time `json:"at"`
}

// Answer answers other hosts' questions until ctx ends.
func (r Rounds) Answer(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(2)
	err := kvstore.Watch(ctx, r.Store, records.DoctorAsksPrefix, func(c kvstore.Change[asked]) {
		for id, question := range c.Put {
			if question.Host == r.Host || c.First { // nobody waits any more
				continue
			}
			group.Go(func() error { r.answer(running, id, question); return nil })
		}
	})
	return errors.Join(err, group.Wait())
}

// answer writes what this host finds, if the question still stands. Who asked is told
// nothing where it cannot be written, and says that no answer came.
func (r Rounds) answer(ctx context.Context, id string, question asked) {
	measured := make(chan []talk.Conversation, 1)
	go func() {
		var rates []talk.Conversation
		if question.Talk {
			rates, _ = r.Talk(ctx) // a host that cannot count has none
		}
		measured <- rates
	}()
	d := r.Examine(ctx)
	d.Talk = <-measured
	d.Talk = d.Talk[:min(len(d.Talk), mostTalk)]
	d.Findings, d.Tunnels = d.Findings[:min(len(d.Findings), mostTold)], d.Tunnels[:min(len(d.Tunnels), mostTunnels)]
	_ = r.questions().Answer(ctx, id, r.Host, answer{d, r.now().UTC()})
}

// ExamineAll examines this host and asks the others meanwhile.
func ExamineAll(ctx context.Context, in Inputs, rounds Rounds) Diagnosis {
	others := make(chan Diagnosis, 1)
	go func() {
		theirs, err := rounds.Ask(ctx)
		if err != nil {
			theirs.Findings = append(theirs.Findings, Finding{
				Host: in.Host.Shown(), Check: "round", Severity: Problem, Scope: "the cluster", Cause: "The other hosts could not be asked.",
				Evidence: err.Error(), Remedy: "They are asked through the store: mend that first, or run causeway doctor on each of them.",
			})
		}
		others <- theirs
	}()
	ours := Examine(ctx, in)
	theirs := <-others
	theirs.Findings = sorted(append(ours.Findings, theirs.Findings...))
	theirs.Tunnels = append(ours.Tunnels, theirs.Tunnels...)
	return theirs
}

// Ask gives what the other hosts that are alive find, and those that do not answer as
// findings.
func (r Rounds) Ask(ctx context.Context) (Diagnosis, error) {
	r.Limit = cmp.Or(r.Limit, roundLimit)
	ctx, cancel := context.WithTimeout(ctx, r.Limit)
	defer cancel()
	alive, err := r.Store.List(ctx, records.AlivePrefix)
	if err != nil {
		return Diagnosis{}, err
	}
	waiting := make(map[string]bool)
	for key := range alive.Items {
		if host := strings.TrimPrefix(key, records.AlivePrefix); host != r.Host {
			waiting[host] = true
		}
	}
	if len(waiting) == 0 {
		return Diagnosis{}, nil
	}
	questions := r.questions()
	if err := questions.Tidy(ctx, r.now()); err != nil {
		return Diagnosis{}, err
	}
	id := rand.Text()
	if err := questions.Put(ctx, id, asked{r.Host, r.now().UTC(), r.AskTalk}); err != nil {
		return Diagnosis{}, err
	}
	found, err := r.collect(ctx, id, waiting)
	ending, end := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer end()
	return found, errors.Join(err, questions.Remove(ending, id))
}

// collect reads the answers until none is missing, or the time is over.
func (r Rounds) collect(ctx context.Context, id string, waiting map[string]bool) (d Diagnosis, err error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	err = kvstore.Watch(ctx, r.Store, records.DoctorAnswers(id), func(c kvstore.Change[answer]) {
		for host, a := range c.Put {
			if waiting[host] {
				d.Findings = append(append(d.Findings, a.Findings...), r.clock(host, a.At)...)
				d.Tunnels = append(d.Tunnels, a.Tunnels...)
				d.Talk = append(d.Talk, a.Talk...)
			}
			delete(waiting, host)
		}
		if len(waiting) == 0 {
			done()
		}
	})
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return d, err
	}
	for _, host := range slices.Sorted(maps.Keys(waiting)) {
		d.Findings = append(d.Findings, Finding{
			Host: host, Check: "round", Severity: Problem, Scope: "host " + host, About: []string{aboutHost(host)},
			Cause:    fmt.Sprintf("The causeway of host %s lives, and does not say how it is.", host),
			Evidence: fmt.Sprintf("no answer within %s", r.Limit),
			Remedy:   "It hangs, is very busy, or is of a version that knows no doctor: run causeway doctor there.",
		})
	}
	return d, nil
}

// clock compares another host's clock with ours.
func (r Rounds) clock(host string, at time.Time) []Finding {
	apart := at.Sub(r.now())
	if apart.Abs() < clocks {
		return nil
	}
	direction := "ahead of"
	if apart < 0 {
		direction = "behind"
	}
	return []Finding{{
		Host: host, Check: "clocks", Severity: Warning, Scope: "host " + host, About: []string{aboutHost(host)},
		Cause:    fmt.Sprintf("The clock of host %s is %s that of host %s.", host, direction, r.Host),
		Evidence: fmt.Sprintf("its answer is stamped %s away from the time that it came", apart.Abs().Round(100*time.Millisecond)),
		Remedy:   "Let NTP set the clocks of all hosts: certificates and tokens are refused where clocks are minutes apart.",
	}}
}
