// Package nicmove moves a host's NIC into a bridge, with all that makes it the
// host's, and back.
//
// A NIC's path: [Mover.Ensure] writes the intent to the journal (journal.go),
// makes the bridge (bridge.go), and transfers MAC, addresses, routes and
// neighbours to it (enslave.go, transfer.go), as the kernel's own messages
// (internal/rtmsg). Then it looks whether what answered before still does
// (confirm.go); if not, all goes back. [Mover.Release] is the same in reverse.
// Each step can be made twice: a process that was killed anywhere is finished by
// the [Mover.Recover] of the next one, and the host keeps its addresses, on the
// NIC or on the bridge, at each step.
//
// A VLAN is the same move: its port, a VLAN device on the NIC, is made before
// (port.go), and the NIC keeps what it has.
package nicmove

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/rtmsg"
)

// ErrGone says that there is no such link on the host.
var ErrGone = errors.New("no such interface")

// Config is what a Mover works with. NS, Journal, Mark, Questions and Log are required.
type Config struct {
	// NS is the namespace of the host's NICs; it stays the caller's to close.
	NS netns.NsHandle
	// Journal is a folder for what must be known after a crash. It must outlive
	// the process, not the kernel.
	Journal string
	// Mark begins the alias of links that are ours: `ip link` shows it.
	Mark string
	// Questions gives what has to answer after a move if it did before; device has
	// the host's addresses, the NIC itself or its bridge. done is called after them.
	Questions func(device, nic string) (questions []Question, done func())
	// ConfirmLimit is how long the answers may be missing after a move; zero for 5 s.
	ConfirmLimit time.Duration
	// Boot is the ID of the running kernel; empty for what the kernel says.
	Boot string
	Log  *logrus.Entry
}

// Place names a bridge and the NIC that belongs into it.
type Place struct {
	Bridge string `json:"bridge"`
	Parent string `json:"parent"`
	// VLAN is a tag: the bridge's port is a VLAN device on the parent, named Port.
	VLAN int    `json:"vlan,omitempty"`
	Port string `json:"port,omitempty"`
}

// SameNIC says whether both are of one NIC and tag.
func (p Place) SameNIC(other Place) bool { return p.Parent == other.Parent && p.VLAN == other.VLAN }

// Mover moves NICs. It is not for concurrent use.
type Mover struct {
	Config
	kernel  *kernel
	journal journal
	records map[string]*record // by bridge
	// refusals are the bridges that are not tried again for a while.
	refusals map[string]refusal
	// losses are when a bridge was found without its NIC.
	losses map[string][]time.Time
}

// Open reads the journal. It changes nothing: Recover does.
func Open(config Config) (*Mover, error) {
	if config.Boot == "" {
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return nil, fmt.Errorf("read the kernel's boot ID: %w", err)
		}
		config.Boot = strings.TrimSpace(string(boot))
	}
	config.ConfirmLimit = cmp.Or(config.ConfirmLimit, confirmLimit)
	j := journal(config.Journal)
	records, err := j.read(config.Log)
	if err != nil {
		return nil, err
	}
	k, err := openKernel(config.NS)
	if err != nil {
		return nil, err
	}
	return &Mover{
		Config: config, kernel: k, journal: j, records: records,
		refusals: make(map[string]refusal), losses: make(map[string][]time.Time),
	}, nil
}

// Close leaves the kernel as it is.
func (m *Mover) Close() error { return m.kernel.close() }

// Places lists the bridges that are ours, by name.
func (m *Mover) Places() []Place {
	var places []Place
	for _, name := range slices.Sorted(maps.Keys(m.records)) {
		places = append(places, m.records[name].Place)
	}
	return places
}

// Has says whether the bridge is ours.
func (m *Mover) Has(bridge string) bool { return m.records[bridge] != nil }

// Recover finishes the moves that were broken off, and makes a bridge again that
// was deleted with the host's addresses. It asks nothing of the cluster, and
// comes before the first record is read: the store may be reached through the
// very NIC that was being moved.
func (m *Mover) Recover(ctx context.Context) error {
	errs := []error{m.adopt()}
	for _, name := range slices.Sorted(maps.Keys(m.records)) {
		r := m.records[name]
		lost, err := m.isBare(r)
		errs = append(errs, err)
		if r.Phase == enslaved && !lost {
			continue
		}
		m.Log.Infof("bridge %s was left in the state %s of %s: finish", r.Bridge, r.Phase, r.Parent)
		if r.Phase == releasing {
			errs = append(errs, m.release(r))
		} else {
			errs = append(errs, m.ensure(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// Ensure has the NIC in its bridge, and says whether it had to change anything.
// With confirm, what answered before the move must answer after it, or the NIC
// is moved back and the error says what did not.
func (m *Mover) Ensure(ctx context.Context, place Place, confirm bool) (changed bool, err error) {
	r, known := m.records[place.Bridge]
	if !known || !r.SameNIC(place) {
		r = &record{Place: place, Confirm: confirm}
	}
	if r.Phase == enslaved {
		if fine, err := m.InPlace(place.Bridge); fine || err != nil {
			return false, err
		}
	}
	if err := m.refused(place.Bridge); err != nil {
		return false, err
	}
	if err := m.countLoss(r); err != nil {
		return true, err
	}
	return true, m.ensure(ctx, r)
}

func (m *Mover) ensure(ctx context.Context, r *record) error {
	first := r.Phase != enslaved || r.Boot != m.Boot
	if r.Phase == "" || r.Boot != m.Boot {
		r.Answered = nil
		if r.Confirm {
			if err := m.answers(ctx, r); err != nil {
				return err
			}
		}
	}
	if err := m.enslave(r); err != nil {
		return err
	}
	if first {
		if err := m.confirm(ctx, r); err != nil {
			if errors.As(err, new(*UnconfirmedError)) {
				err = m.refuse(r.Bridge, err, unconfirmedPause)
			}
			return err
		}
	}
	r.Phase, r.Answered = enslaved, nil
	if err := m.note(r); err != nil {
		return err
	}
	switch {
	case !first:
		m.Log.Warnf("bridge %s was found changed: repaired", r.Bridge)
	case r.VLAN != 0:
		m.Log.Infof("bridge %s has VLAN %d of %s", r.Bridge, r.VLAN, r.Parent)
	default:
		m.Log.Infof("bridge %s has enslaved %s, with all its addresses and routes", r.Bridge, r.Parent)
		m.warn(r)
	}
	return nil
}

// Release undoes Ensure. A parent that is gone gets nothing back.
func (m *Mover) Release(bridge string) error {
	r, known := m.records[bridge]
	if !known {
		return nil
	}
	delete(m.refusals, bridge)
	delete(m.losses, bridge)
	return m.release(r)
}

func (m *Mover) release(r *record) error {
	err := m.restore(r)
	if errors.Is(err, ErrGone) {
		m.Log.Warnf("bridge %s is deleted with all it has: %v", r.Bridge, err)
		return errors.Join(m.deleteBridge(r), m.forget(r))
	}
	if err == nil {
		m.Log.Infof("bridge %s has released %s", r.Bridge, r.Parent)
	}
	return err
}

// InPlace says whether the kernel still has what Ensure made: the bridge is up,
// the NIC is its port, and no DHCP client or user has given the NIC an address again.
func (m *Mover) InPlace(bridge string) (bool, error) {
	r := m.records[bridge]
	link, found, err := m.kernel.find(bridge)
	if r == nil || err != nil || !found || link.Attrs().RawFlags&unix.IFF_UP == 0 {
		return false, err
	}
	port, err := m.port(r)
	if errors.Is(err, ErrGone) {
		return false, nil
	}
	if err != nil || port.Attrs().MasterIndex != link.Attrs().Index {
		return false, err
	}
	addresses, err := m.kernel.socket.Addresses(deviceOf(port))
	return !hasAddress(rtmsg.State{Addresses: addresses}), err
}

// isBare says that the bridge was deleted and left its NIC without an address.
func (m *Mover) isBare(r *record) (bool, error) {
	_, found, err := m.kernel.find(r.Bridge)
	if err != nil || found || r.VLAN != 0 || r.Boot != m.Boot {
		return false, err
	}
	parent, err := m.parent(r)
	if errors.Is(err, ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	addresses, err := m.kernel.socket.Addresses(deviceOf(parent))
	bare := !hasAddress(rtmsg.State{Addresses: addresses})
	return parent.Attrs().Index == r.Index && bare && hasAddress(r.Saved), err
}

// note writes the record, and holds it from then on.
func (m *Mover) note(r *record) error {
	if err := m.kernel.do(fmt.Sprintf("note %s %s", r.Phase, r.Parent), func() error { return m.journal.write(r) }); err != nil {
		return err
	}
	m.records[r.Bridge] = r
	return nil
}

func (m *Mover) forget(r *record) error {
	if err := m.kernel.do("forget bridge "+r.Bridge, func() error { return m.journal.erase(r) }); err != nil {
		return err
	}
	delete(m.records, r.Bridge)
	return nil
}
