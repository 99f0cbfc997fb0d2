package ui

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/causeway-net/causeway/internal/pause"
)

const (
	// calm is the least time between two events: what changes meanwhile is one.
	calm = 100 * time.Millisecond
	// still is after how long without a change a sign of life is sent, so that a page
	// which is gone is noticed.
	still = 15 * time.Second
)

// events sends what there is and then what changes, until the page is closed.
func events(w http.ResponseWriter, r *http.Request, h *hub) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	watcher := h.watch()
	defer watcher.close()
	flusher := http.NewResponseController(w)
	for {
		text, err := next(r.Context(), watcher)
		if err != nil {
			return // the page was closed, or the server stops
		}
		_ = flusher.SetWriteDeadline(time.Now().Add(2 * still)) // a page that does not read is closed
		if _, err := w.Write(text); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
		if pause.For(r.Context(), calm) != nil {
			return
		}
	}
}

// next waits for the next event; a comment is a sign of life.
func next(ctx context.Context, w *watcher) ([]byte, error) {
	life := time.NewTimer(still)
	defer life.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-life.C:
		return []byte(":\n\n"), nil
	case <-w.ready:
		text, err := json.Marshal(w.take())
		return fmt.Appendf(nil, "data: %s\n\n", text), err
	}
}
