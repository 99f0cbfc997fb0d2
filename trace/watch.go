package trace

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/wire"
)

// watch listens at the hops of a host.
type watch struct {
	flow    Flow
	sockets []*os.File
	readers sync.WaitGroup
	mu      sync.Mutex // guards hops
	hops    []Hop
}

// add listens at a hop: frames of the flow have their IP header at an offset there.
func (w *watch) add(hop Hop, handle *nl.Handle, link netlink.Link, offset int) error {
	socket, err := wire.Open(handle.NS(), link, unix.ETH_P_ALL, w.flow.filter(offset))
	if err != nil {
		return err
	}
	hop.Watched = true
	w.mu.Lock()
	index := len(w.hops)
	w.hops = append(w.hops, hop)
	w.mu.Unlock()
	w.sockets = append(w.sockets, socket)
	w.readers.Go(func() { w.read(socket, index, offset) })
	return nil
}

// skip adds a hop at which nobody can listen.
func (w *watch) skip(hop Hop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hops = append(w.hops, hop)
}

func (w *watch) read(socket *os.File, index, offset int) {
	frame := make([]byte, 2048)
	for {
		n, err := socket.Read(frame)
		if errors.Is(err, unix.ENETDOWN) {
			continue // it may come up again
		}
		if err != nil { // closed, or the time is over
			return
		}
		if n < offset {
			continue
		}
		request, answer := w.flow.direction(frame[offset:n])
		w.mu.Lock()
		w.hops[index].Request = w.hops[index].Request || request
		w.hops[index].Answer = w.hops[index].Answer || answer
		w.mu.Unlock()
	}
}

// settle is how long the readers have for what the kernel already put in their sockets.
const settle = 100 * time.Millisecond

// end stops listening, and gives the hops with what was seen.
func (w *watch) end() []Hop {
	for _, socket := range w.sockets {
		if socket.SetReadDeadline(time.Now().Add(settle)) != nil {
			_ = socket.Close() // it was closed before, or cannot wait
		}
	}
	w.readers.Wait()
	for _, socket := range w.sockets {
		_ = socket.Close() // it was only read
	}
	return w.hops
}
