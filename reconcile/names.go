package reconcile

import (
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

// Names answers containers by name. It is told of the networks that this host has
// containers on, by the loop's goroutine, and must not keep it waiting.
type Names interface {
	// Update takes in what changed of a network or of its endpoints.
	Update(network fabric.Network, put map[string]fabric.Endpoint, gone []string)
	// Forget drops a network that has no container here any more.
	Forget(network string)
}

// nameEndpoints hands over a change of a network's endpoints that is in the view.
func (l *Loop) nameEndpoints(network string, c kvstore.Change[fabric.Endpoint]) {
	if l.Names == nil {
		return
	}
	put := make(map[string]fabric.Endpoint, len(c.Put))
	for id := range c.Put {
		if endpoint, ok := l.view.Endpoint(network, id); ok {
			put[id] = endpoint
		}
	}
	l.Names.Update(l.view.Network(network), put, c.Gone)
}

// nameNetworks hands over that networks were renamed or changed.
func (l *Loop) nameNetworks(networks []string) {
	for _, id := range networks {
		if _, followed := l.follows[id]; followed && l.Names != nil {
			l.Names.Update(l.view.Network(id), nil, nil)
		}
	}
}
