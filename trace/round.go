package trace

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// The other host is asked by a record that it alone follows. It says that it listens, then
// the probe is sent, and once the time is over it says what it saw.

const (
	readyLimit = 3 * time.Second
	watched    = 2 * time.Second // longer than a probe takes
)

// question asks a host to watch its end of a flow.
type question struct {
	Network string          `json:"network"`
	Self    fabric.Endpoint `json:"self"`
	Other   fabric.Endpoint `json:"other"`
	Flow    Flow            `json:"flow"`
	At      time.Time       `json:"at"`
}

// questions are those to a host.
func (t Tracer) questions(host string) records.Questions[question] {
	return records.Questions[question]{
		Store: t.Store, Asks: records.TraceAsks(host), Answers: records.TraceAnswers, At: func(q question) time.Time { return q.At },
	}
}

// report is a host's answer; its first has no hops.
type report struct {
	Hops  []Hop  `json:"hops,omitempty"`
	Error string `json:"error,omitempty"`
	Ended bool   `json:"ended"`
}

// Answer answers other hosts' questions until ctx ends.
func (t Tracer) Answer(ctx context.Context) error {
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(4)
	err := kvstore.Watch(ctx, t.Store, records.TraceAsks(t.Host.Name), func(c kvstore.Change[question]) {
		for id, q := range c.Put {
			if !c.First { // else nobody waits any more
				group.Go(func() error { t.answer(running, id, q); return nil })
			}
		}
	})
	return errors.Join(err, group.Wait())
}

// answer watches, and tells who asked; where that fails it says that no answer came.
func (t Tracer) answer(ctx context.Context, id string, q question) {
	said := error(nil)
	hops, err := t.watchFor(ctx, end{q.Network, q.Self, q.Other, q.Flow.From, false}, q.Flow, func() {
		if said = t.say(ctx, id, report{}); said == nil {
			until, done := context.WithTimeout(ctx, watched)
			defer done()
			<-until.Done()
			said = ctx.Err()
		}
	})
	if said != nil {
		return
	}
	final := report{Hops: hops, Ended: true}
	if err != nil {
		final.Error = err.Error()
	}
	_ = t.say(ctx, id, final) // who asked says that no answer came
}

func (t Tracer) say(ctx context.Context, id string, r report) error {
	return t.questions(t.Host.Name).Answer(ctx, id, t.Host.Name, r)
}

// ask has the host of the other end watch while send runs, which runs in any case.
func (t Tracer) ask(ctx context.Context, p pair, flow Flow, host string, send func()) (hops []Hop, err error) {
	id := rand.Text()
	questions := t.questions(p.to.Host)
	err = questions.Tidy(ctx, time.Now())
	if err == nil {
		err = questions.Put(ctx, id, question{p.network.ID, p.to, p.from, flow, time.Now().UTC()})
	}
	if err != nil {
		send()
		return nil, fmt.Errorf("host %s could not be asked: %w", host, err)
	}
	defer func() {
		ending, done := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer done()
		err = errors.Join(err, questions.Remove(ending, id))
	}()
	following, stop := context.WithCancel(ctx)
	reports := make(chan report, 2) // it says two things
	group := new(errgroup.Group)
	defer func() {
		stop()
		if failed := group.Wait(); !errors.Is(failed, context.Canceled) {
			err = errors.Join(err, failed)
		}
	}()
	group.Go(func() error {
		return kvstore.Watch(following, t.Store, records.TraceAnswers(id), func(c kvstore.Change[report]) {
			for _, r := range c.Put {
				select {
				case reports <- r:
				case <-following.Done():
				}
			}
		})
	})
	last, listens := next(ctx, reports, readyLimit)
	send()
	for listens && !last.Ended {
		last, listens = next(ctx, reports, watched+readyLimit)
	}
	if !listens {
		return nil, fmt.Errorf("the causeway of host %s does not answer: only this host's part of the way was watched", host)
	}
	if last.Error != "" {
		err = fmt.Errorf("host %s could not watch its whole part of the way: %s", host, last.Error)
	}
	return last.Hops, err
}

// next gives the next report that comes in time.
func next(ctx context.Context, reports <-chan report, limit time.Duration) (report, bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-reports:
		return r, true
	case <-timer.C:
	case <-ctx.Done():
	}
	return report{}, false
}
