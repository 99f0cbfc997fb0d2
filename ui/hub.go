package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Delta is what changed since the one before.
type Delta struct {
	// All says that Put is all that there is.
	All bool `json:"all,omitempty"`
	// Put are the objects that are new or not as they were, by key.
	Put map[string]json.RawMessage `json:"put,omitempty"`
	// Gone are the keys of those that there are no more.
	Gone []string `json:"gone,omitempty"`
}

// hub has what the page shows, as objects by key, and tells each watcher what changed. A
// watcher that is slow is told less often, and then the last state of each object; what it
// keeps a note of is never more than there are objects.
type hub struct {
	mu       sync.Mutex // guards what follows
	objects  map[string]json.RawMessage
	watchers map[*watcher]struct{}
	// replaced are the keys that replace put last, by kind.
	replaced map[string][]string
	// arrived is closed, and another made, when somebody comes to watch.
	arrived chan struct{}
}

func newHub() *hub {
	return &hub{objects: map[string]json.RawMessage{}, watchers: map[*watcher]struct{}{}, replaced: map[string][]string{}, arrived: make(chan struct{})}
}

// put writes an object; one that is as it was is no change.
func (h *hub) put(key string, object any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.set(key, object)
}

// drop removes an object.
func (h *hub) drop(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unset(key)
}

// replace has those objects alone of a kind, by their keys after it. Nothing else writes
// objects of that kind.
func (h *hub) replace(kind string, objects map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range h.replaced[kind] {
		if _, stays := objects[key]; !stays {
			h.unset(kind + key)
		}
	}
	for key, object := range objects {
		h.set(kind+key, object)
	}
	h.replaced[kind] = slices.Collect(maps.Keys(objects))
}

// set and unset are put and drop; h.mu is held.
func (h *hub) set(key string, object any) {
	text, err := json.Marshal(object)
	if err != nil { // a type of this package that no JSON can be made of
		text = json.RawMessage(fmt.Sprintf(`{"error":%q}`, err))
	}
	if old, there := h.objects[key]; there && bytes.Equal(old, text) {
		return
	}
	h.objects[key] = text
	h.note(key)
}

func (h *hub) unset(key string) {
	if _, there := h.objects[key]; there {
		delete(h.objects, key)
		h.note(key)
	}
}

// note has all watchers told of a key; h.mu is held.
func (h *hub) note(key string) {
	for w := range h.watchers {
		w.dirty[key] = struct{}{}
		signal(w.ready)
	}
}

func signal(ready chan struct{}) {
	select {
	case ready <- struct{}{}:
	default: // it is told already
	}
}

// watched says whether anybody looks, and gives what is closed when somebody comes.
func (h *hub) watched() (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers) > 0, h.arrived
}

// watcher is one page that is open.
type watcher struct {
	hub   *hub
	fresh bool                // it was told nothing yet
	dirty map[string]struct{} // what it was not told of
	// ready is told when take would give something.
	ready chan struct{}
}

func (h *hub) watch() *watcher {
	w := &watcher{hub: h, fresh: true, dirty: map[string]struct{}{}, ready: make(chan struct{}, 1)}
	signal(w.ready)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = struct{}{}
	close(h.arrived)
	h.arrived = make(chan struct{})
	return w
}

// take gives what changed since the last time: all that there is, the first time.
func (w *watcher) take() Delta {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	dirty := w.dirty
	w.dirty = map[string]struct{}{}
	if w.fresh {
		w.fresh = false
		return Delta{All: true, Put: maps.Clone(w.hub.objects)}
	}
	d := Delta{Put: make(map[string]json.RawMessage, len(dirty))}
	for key := range dirty {
		if object, there := w.hub.objects[key]; there {
			d.Put[key] = object
		} else {
			d.Gone = append(d.Gone, key)
		}
	}
	slices.Sort(d.Gone)
	return d
}

func (w *watcher) close() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	delete(w.hub.watchers, w)
}
