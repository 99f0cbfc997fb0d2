package underlay

import (
	"context"
	"maps"
	"sync"
	"syscall"

	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Drops counts the frames that were dropped at the ports of this host's containers, by
// endpoint ID.
func (p *Plane) Drops(context.Context) (map[string]fabric.Drops, error) {
	drops, err := p.filters.Drops()
	return drops, wrap(err)
}

// touched are the links whose qdiscs or filters changed since they were looked at.
// The zero value is ready.
type touched struct {
	mu    sync.Mutex
	links map[int]bool // by index
	all   bool         // notifications were lost
}

func (t *touched) add(messages []syscall.NetlinkMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, message := range messages {
		switch message.Header.Type {
		case unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER, unix.RTM_NEWQDISC, unix.RTM_DELQDISC:
			if t.links == nil {
				t.links = make(map[int]bool)
			}
			t.links[int(rtnl.DeserializeTcMsg(message.Data).Ifindex)] = true
		}
	}
}

func (t *touched) addAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = true
}

// take gives what was touched, and begins anew.
func (t *touched) take() (has func(index int) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	links, all := maps.Clone(t.links), t.all
	clear(t.links)
	t.all = false
	return func(index int) bool { return all || links[index] }
}
