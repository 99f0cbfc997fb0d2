package nicmove

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/rtmsg"
)

// Question is something that must answer after a move if it did before: a
// gateway, the store. A name is what errors call it.
type Question struct {
	Name string
	// Ask gives nil when it answered. It may be called again, until ctx ends.
	Ask func(ctx context.Context) error
}

const (
	// askLimit is how long an answer may take; confirmLimit, how long the answers
	// may be missing after a move. A NIC that becomes promiscuous may lose its
	// carrier for a moment.
	askLimit     = time.Second
	confirmLimit = 5 * time.Second
)

// answers asks all questions before the move, and notes those that answered.
func (m *Mover) answers(ctx context.Context, r *record) error {
	nic := m.nicName(r)
	r.Answered = m.ask(ctx, nic, nic, nil)
	return ctx.Err() // else there may be more
}

// nicName is the parent's name, which may be another by now.
func (m *Mover) nicName(r *record) string {
	if link, err := m.parent(r); err == nil {
		return link.Attrs().Name
	}
	return r.Parent
}

// ask asks all questions at once, or those in only, and names those that answered.
func (m *Mover) ask(ctx context.Context, device, nic string, only []string) []string {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	questions, done := m.Questions(device, nic)
	defer done()
	answered := make([]string, len(questions))
	var wait sync.WaitGroup
	for i, question := range questions {
		if only == nil || slices.Contains(only, question.Name) {
			wait.Go(func() {
				if question.Ask(ctx) == nil {
					answered[i] = question.Name
				}
			})
		}
	}
	wait.Wait()
	return slices.DeleteFunc(answered, func(name string) bool { return name == "" })
}

// confirm looks whether all that answered before the move does so now, through
// the bridge. If not in time, the NIC is moved back.
func (m *Mover) confirm(caller context.Context, r *record) error {
	ctx, cancel := context.WithTimeout(caller, m.ConfirmLimit)
	defer cancel()
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	silent := slices.Clone(r.Answered)
	for len(silent) > 0 {
		answered := m.ask(ctx, r.Bridge, m.nicName(r), silent)
		silent = slices.DeleteFunc(silent, func(name string) bool { return slices.Contains(answered, name) })
		if len(silent) == 0 {
			break
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			var err error = &UnconfirmedError{Place: r.Place, Silent: silent}
			if caller.Err() != nil {
				err = fmt.Errorf("%s is moved back, for want of time to see who answers: %w", r.Parent, caller.Err())
			}
			return errors.Join(err, m.release(r))
		}
	}
	return nil
}

// UnconfirmedError says that a move cut the host off, and was undone.
type UnconfirmedError struct {
	Place
	Silent []string // what no longer answered
}

func (e *UnconfirmedError) Error() string {
	return fmt.Sprintf("with %s in bridge %s, %s no longer answered, so that it was moved back: "+
		"look for a firewall rule or other setup that names %[1]s and has to name %[2]s too, or move it all the same with -o force=true",
		e.Parent, e.Bridge, strings.Join(e.Silent, " and "))
}

// refusal is why a bridge is left alone for a while.
type refusal struct {
	err   error
	until time.Time
}

// refuse keeps a bridge from being tried again for a while.
func (m *Mover) refuse(bridge string, err error, pause time.Duration) error {
	until := time.Now().Add(pause)
	err = fmt.Errorf("%w (it is tried again at %s)", err, until.Format(time.TimeOnly))
	m.refusals[bridge] = refusal{err: err, until: until}
	return err
}

const (
	// unconfirmedPause keeps a retry from cutting the host off again and again.
	unconfirmedPause = 10 * time.Minute
	// A NIC that is taken out of its bridge this often, this close together, is
	// another program's: it is not put back for a while.
	lossLimit  = 3
	lossWindow = time.Minute
	lossPause  = 5 * time.Minute
)

func (m *Mover) refused(bridge string) error {
	refused, found := m.refusals[bridge]
	if !found || time.Now().After(refused.until) {
		return nil
	}
	return refused.err
}

// Try moves the NIC and back, to see whether a move would be confirmed. It does
// nothing where there is nothing to lose.
func (m *Mover) Try(ctx context.Context, place Place) error {
	r := &record{Place: place, Confirm: true}
	if m.Has(place.Bridge) || place.VLAN != 0 {
		return nil
	}
	if err := m.answers(ctx, r); err != nil || len(r.Answered) == 0 {
		return err
	}
	delete(m.refusals, place.Bridge)
	if err := m.enslave(r); err != nil {
		return err
	}
	if err := m.confirm(ctx, r); err != nil {
		return err
	}
	return m.restore(r)
}

// countLoss counts that the bridge of a finished move has lost its NIC to another
// program, which is left alone after some times: a NIC that goes to and fro cuts
// the host off each time.
func (m *Mover) countLoss(r *record) error {
	if r.Phase != enslaved || r.Boot != m.Boot {
		return nil
	}
	if _, found, err := m.kernel.find(r.Bridge); err != nil || !found {
		return err
	}
	port, err := m.port(r)
	if err != nil || port.Attrs().MasterIndex != 0 {
		return nil // enslave says what is wrong
	}
	now := time.Now()
	recent := slices.DeleteFunc(m.losses[r.Bridge], func(t time.Time) bool { return now.Sub(t) > lossWindow })
	m.losses[r.Bridge] = append(recent, now)
	if len(recent) < lossLimit {
		return nil
	}
	err = fmt.Errorf("%s was taken out of bridge %s %d times within a minute by another program: keep it from that "+
		"(systemd-networkd: KeepMaster=yes in the .network file of %[1]s; NetworkManager: nmcli device set %[1]s managed no)",
		r.Parent, r.Bridge, len(recent)+1)
	delete(m.losses, r.Bridge)
	return errors.Join(m.refuse(r.Bridge, err, lossPause), m.release(r))
}

// warn tells of what a move cannot carry: what others do by the NIC's name.
func (m *Mover) warn(r *record) {
	for _, a := range r.Saved.Addresses {
		if a.IsDynamic() && a.Maker() != rtmsg.MadeByRouter {
			m.Log.Warnf("address %s of %s is leased: it runs out on bridge %s unless the DHCP client is told to run there",
				a, r.Parent, r.Bridge)
		}
	}
	rules, err := m.kernel.RuleList(netlink.FAMILY_ALL)
	if err != nil {
		m.Log.WithError(err).Warn("list routing rules")
	}
	for _, rule := range rules {
		if rule.IifName == r.Parent || rule.OifName == r.Parent {
			m.Log.Warnf("routing rule %d names %s: its packets are those of bridge %s now", rule.Priority, r.Parent, r.Bridge)
		}
	}
}
