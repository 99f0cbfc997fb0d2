package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

// sandbox is one container's network namespace in which names are served. It
// holds the namespace open: when its path is no longer bound to it, the
// container is gone and the sandbox has to be closed.
type sandbox struct {
	path      string
	handle    *nl.Handle
	directory *directory
	docker    docker
	listener  *listener
	table     *table
	// mixed says that the container is on a network of another driver too, whose
	// names Docker alone knows.
	mixed atomic.Bool

	// empty is closed when the last endpoint has left.
	empty chan struct{}
	// closing says that no endpoint may come any more; the Server guards it.
	closing bool

	mu        sync.RWMutex      // guards endpoints
	endpoints map[string]string // networks by endpoint ID
}

// openSandbox begins to serve the namespace at path. The error is
// [nl.ErrNotFound] while there is none.
func openSandbox(path string, directory *directory) (*sandbox, error) {
	ns, err := nl.OpenNamespace(path)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	s := &sandbox{path: path, directory: directory, endpoints: make(map[string]string), empty: make(chan struct{})}
	if s.handle, err = nl.Open(ns); err != nil {
		return nil, err
	}
	s.docker = docker{ns: s.handle.NS(), slots: make(chan struct{}, maxForwards)}
	if err := s.start(s.handle.NS()); err != nil {
		return nil, errors.Join(fmt.Errorf("serve names in %s: %w", path, err), s.close())
	}
	return s, nil
}

func (s *sandbox) start(ns netns.NsHandle) (err error) {
	if s.listener, err = listen(ns, s); err != nil {
		return err
	}
	s.listener.serve()
	if s.table, err = openTable(ns); err != nil {
		return err
	}
	return s.table.install(s.listener.port)
}

// keep renews the redirection until ctx ends, the last endpoint has left or the
// namespace has lost its path. report takes each outcome.
func (s *sandbox) keep(ctx context.Context, report func(error)) {
	const checkEvery = 2
	tick := time.NewTicker(renewal)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-s.empty:
			return
		case <-tick.C:
		}
		if !s.handle.IsBound(s.path) {
			return
		}
		err := s.table.renew()
		if err != nil || n%checkEvery == 0 && !s.table.intact() {
			err = s.table.install(s.listener.port) // someone changed it by hand
		}
		report(err)
	}
}

// close ends the redirection and lets the namespace go.
func (s *sandbox) close() error {
	var errs []error
	if s.table != nil {
		errs = append(errs, s.table.release(), s.table.close())
	}
	if s.listener != nil {
		errs = append(errs, s.listener.close())
	}
	return errors.Join(append(errs, s.handle.Close())...)
}

func (s *sandbox) attach(endpoint, network string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[endpoint] = network
}

func (s *sandbox) detach(endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.endpoints, endpoint)
}

// networks are those that the container is on, sorted.
func (s *sandbox) networks() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Compact(slices.Sorted(maps.Values(s.endpoints)))
}

// ServeDNS implements [dns.Handler] for the questions of this sandbox.
func (s *sandbox) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	protocol := w.LocalAddr().Network()
	reply := s.directory.answer(s.networks(), request)
	switch {
	case reply == nil:
		var ok bool
		if reply, ok = s.forward(protocol, request, forwardTimeout); !ok {
			return // the client asks again
		}
	case s.mixed.Load() && request.Question[0].Qtype != dns.TypePTR:
		if dockers, ok := s.forward(protocol, request, unionTimeout); ok {
			merge(reply, dockers)
		}
	}
	if protocol == "udp" {
		size := dns.MinMsgSize
		if edns := request.IsEdns0(); edns != nil {
			size = max(size, int(edns.UDPSize()))
		}
		reply.Truncate(size)
	}
	_ = w.WriteMsg(reply) // a client that is gone is no fault
}

// forward asks Docker's resolver, if not too many questions wait for it already.
func (s *sandbox) forward(protocol string, request *dns.Msg, timeout time.Duration) (*dns.Msg, bool) {
	select {
	case s.docker.slots <- struct{}{}:
		defer func() { <-s.docker.slots }()
	default:
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	reply, err := s.docker.ask(ctx, protocol, request)
	if err != nil && timeout == forwardTimeout {
		// As a resolver that cannot reach its upstream says.
		return new(dns.Msg).SetRcode(request, dns.RcodeServerFailure), true
	}
	return reply, err == nil
}
