package containers

import "sync"

// todo is what is to be asked of the engine. Safe for concurrent use.
type todo struct {
	mu         sync.Mutex // guards list, inspectAll and inspect
	list       bool
	inspectAll bool
	inspect    map[string]bool // by container
	wake       chan struct{}   // signals that there is something to do
}

func newTodo() *todo {
	return &todo{inspect: make(map[string]bool), wake: make(chan struct{}, 1)}
}

func (t *todo) add(list, inspectAll bool, inspect ...string) {
	t.mu.Lock()
	t.list, t.inspectAll = t.list || list, t.inspectAll || inspectAll
	for _, id := range inspect {
		t.inspect[id] = true
	}
	t.mu.Unlock()
	signal(t.wake)
}

// take gives what is to do, and clears it. A list is requested after this.
func (t *todo) take(k *known) (list, inspectAll bool, inspect map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list, inspectAll, inspect = t.list, t.inspectAll, t.inspect
	t.list, t.inspectAll, t.inspect = false, false, make(map[string]bool)
	if list {
		k.listing()
	}
	return list, inspectAll, inspect
}
