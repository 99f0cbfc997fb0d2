package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

// loop owns the data planes and the view of the records that they are made
// from. Everything reaches it as a function on calls: a change of the records, a
// Join, a tick. Nothing here needs a lock.
type loop struct {
	Config
	records records.Records
	calls   chan func(context.Context)
	done    chan struct{}

	state   fabric.State
	ready   map[string]bool // the prefixes that were read once
	follows map[string]*following
	pending map[string][]*join // by network
	dirty   map[string]bool    // networks to apply
	prune   bool
	faults  map[string]string               // by network: what Apply said last
	dead    map[string]time.Time            // endpoints without a link, since when
	orphans map[string]map[orphan]time.Time // claims without an endpoint, by network
	sweeps  sweeps
	group   *errgroup.Group

	standing *standing
	// again asks for this host's record to be written again.
	again chan struct{}
}

// join is a Docker Join that waits for its endpoint to be in view.
type join struct {
	endpoint string
	reply    chan plugged
}

type plugged struct {
	link     string
	endpoint fabric.Endpoint
	err      error
}

func newLoop(config Config) *loop {
	self := config.Host
	return &loop{
		Config:  config,
		records: records.Records{Store: config.Store, Host: self.Name},
		calls:   make(chan func(context.Context)),
		done:    make(chan struct{}),
		state: fabric.State{
			Hosts:     map[string]fabric.Host{self.Name: self},
			Networks:  map[string]fabric.Network{},
			Endpoints: map[string]map[string]fabric.Endpoint{},
			Attached:  map[string]bool{},
		},
		ready:   map[string]bool{},
		follows: map[string]*following{},
		pending: map[string][]*join{},
		dirty:   map[string]bool{},
		faults:  map[string]string{},
		dead:    map[string]time.Time{},
		orphans: map[string]map[orphan]time.Time{},

		standing: newStanding(),
		again:    make(chan struct{}, 1),
	}
}

func (l *loop) run(ctx context.Context) error {
	defer close(l.done)
	group, ctx := errgroup.WithContext(ctx)
	l.group = group
	group.Go(func() error { return l.appear(ctx) })
	group.Go(func() error { return l.turn(ctx) })
	err := group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// turn is the loop itself. Changes that wait already are taken in together, so
// that a burst of them costs one Apply for each network.
func (l *loop) turn(ctx context.Context) error {
	distrust := time.NewTicker(l.Timing.Distrust)
	defer distrust.Stop()
	reap := time.NewTicker(l.Timing.Reap)
	defer reap.Stop()
	retry := time.NewTicker(l.Timing.Retry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case call := <-l.calls:
			call(ctx)
			l.drain(ctx)
		case <-distrust.C:
			l.distrust()
		case <-reap.C:
			if l.standing.refusal() == nil { // else there may be another's endpoints
				l.reap(ctx)
			}
		case <-retry.C:
			l.lookAgain(ctx)
		}
		l.realise(ctx)
	}
}

func (l *loop) drain(ctx context.Context) {
	for range 1000 {
		select {
		case call := <-l.calls:
			call(ctx)
		default:
			return
		}
	}
}

// post hands f to the loop and does not wait for it to run.
func (l *loop) post(ctx context.Context, f func(context.Context)) error {
	select {
	case l.calls <- f:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-l.done:
		return errors.New("causeway is stopping")
	}
}

// do runs f in the loop and returns its error. f gets the caller's ctx.
func (l *loop) do(ctx context.Context, f func(context.Context) error) error {
	result := make(chan error, 1)
	if err := l.post(ctx, func(context.Context) { result <- f(ctx) }); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the data planes are busy: %w", ctx.Err())
	case <-l.done:
		return errors.New("causeway is stopping")
	}
}

func (l *loop) kick() {
	select {
	case l.calls <- func(context.Context) { l.distrust() }:
	case <-l.done:
	}
}

func (l *loop) distrust() {
	for _, plane := range l.Planes {
		plane.Invalidate()
	}
	l.touchAll()
	l.prune = true
}

func (l *loop) touchAll() {
	for id := range l.state.Networks {
		l.dirty[id] = true
	}
}

// lookAgain retries what failed, and asks the planes whether the kernel forgot.
func (l *loop) lookAgain(ctx context.Context) {
	for id := range l.faults {
		l.dirty[id] = true
	}
	for mode, plane := range l.Planes {
		if !plane.Drifted(ctx) {
			continue
		}
		plane.Invalidate()
		for id, network := range l.state.Networks {
			if network.Mode == mode {
				l.dirty[id] = true
			}
		}
	}
}

// realise makes the dirty segments so, answers the Joins that can be, and
// removes what is no longer wanted.
func (l *loop) realise(ctx context.Context) {
	if !l.ready[hostsTable] || !l.ready[networksTable] || !l.ready[attachmentsTable] {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(l.dirty)) {
		if following, ok := l.follows[id]; ok && !following.read {
			continue // an empty network is not what it is
		}
		delete(l.dirty, id)
		segment, wanted := l.segment(id)
		if wanted {
			l.report(id, l.apply(ctx, segment))
		} else {
			l.prune = true
			delete(l.faults, id)
		}
		l.answer(ctx, id, segment)
	}
	if l.prune && l.complete() {
		l.prune = false
		l.removeRest(ctx)
	}
}

// segment plans the one network id.
func (l *loop) segment(id string) (fabric.Segment, bool) {
	network, ok := l.state.Networks[id]
	if !ok {
		return fabric.Segment{}, false
	}
	one := l.state
	one.Networks = map[string]fabric.Network{id: network}
	segments := fabric.Plan(one, l.Host.Name)
	if len(segments) == 0 {
		return fabric.Segment{Network: network}, false
	}
	return segments[0], true
}

func (l *loop) apply(ctx context.Context, segment fabric.Segment) error {
	plane, ok := l.Planes[segment.Network.Mode]
	if !ok {
		return fmt.Errorf("this causeway has no data plane for mode=%s", segment.Network.Mode)
	}
	mended, err := plane.Apply(ctx, segment)
	if mended > 0 {
		l.Log.WithFields(logrus.Fields{"network": orID(segment.Network), "entries": mended}).
			Warn("the kernel had lost entries of the network; they are back")
	}
	return err
}

// report logs a network's fault once, and its recovery once.
func (l *loop) report(id string, err error) {
	log := l.Log.WithField("network", orID(l.state.Networks[id]))
	last, faulty := l.faults[id]
	switch {
	case err == nil && faulty:
		delete(l.faults, id)
		log.Info("network is as it should be again")
	case err != nil && last != err.Error():
		l.faults[id] = err.Error()
		log.WithError(err).Error("network cannot be made so; trying again")
	}
}

// complete says that every network of this host was read once: before that,
// nothing may be judged to be too much.
func (l *loop) complete() bool {
	for _, following := range l.follows {
		if !following.read {
			return false
		}
	}
	return true
}

func (l *loop) removeRest(ctx context.Context) {
	keep := make(map[fabric.Mode][]fabric.Segment)
	for _, segment := range fabric.Plan(l.state, l.Host.Name) {
		keep[segment.Network.Mode] = append(keep[segment.Network.Mode], segment)
	}
	for mode, plane := range l.Planes {
		if err := plane.Prune(ctx, keep[mode]); err != nil {
			l.Log.WithError(err).Warnf("%s: what is no longer wanted could not all be removed; trying again", mode)
		}
	}
}

// answer plugs the endpoints of the Joins that wait on network id and are in view.
func (l *loop) answer(ctx context.Context, id string, segment fabric.Segment) {
	var waiting []*join
	for _, join := range l.pending[id] {
		index := slices.IndexFunc(segment.Local, func(e fabric.Endpoint) bool { return e.ID == join.endpoint })
		if index < 0 {
			waiting = append(waiting, join)
			continue
		}
		result := plugged{endpoint: segment.Local[index]}
		if fault, faulty := l.faults[id]; faulty {
			result.err = errors.New(fault)
		} else {
			result.link, result.err = l.Planes[segment.Network.Mode].Plug(ctx, segment, result.endpoint)
		}
		join.reply <- result
	}
	if len(waiting) == 0 {
		delete(l.pending, id)
		return
	}
	l.pending[id] = waiting
}

// plug waits until the endpoint's segment is realised, and makes its pair.
func (l *loop) plug(ctx context.Context, network, endpoint string) (plugged, error) {
	wait := &join{endpoint: endpoint, reply: make(chan plugged, 1)}
	err := l.post(ctx, func(context.Context) {
		l.pending[network] = append(l.pending[network], wait)
		l.dirty[network] = true
	})
	if err != nil {
		return plugged{}, err
	}
	select {
	case result := <-wait.reply:
		return result, result.err
	case <-l.done:
		return plugged{}, errors.New("causeway is stopping")
	case <-ctx.Done():
	}
	go func() { // the loop may be what took so long
		_ = l.post(context.WithoutCancel(ctx), func(context.Context) {
			l.pending[network] = slices.DeleteFunc(l.pending[network], func(j *join) bool { return j == wait })
		})
	}()
	return plugged{}, fmt.Errorf("endpoint %.12s is not ready: its record was not read back from the store in time", endpoint)
}
