package names

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
)

// Config is what a Server works with. All fields but Off are required.
type Config struct {
	// Off leaves all names to Docker.
	Off bool
	// Host is this host's key in the records.
	Host string
	// Path turns the path of a sandbox, as Docker tells it, into this process'.
	Path func(string) string
	// EngineDir is where Docker names its sandboxes, as this process sees it.
	EngineDir string
	Board     *health.Board
	Log       *logrus.Entry
}

// Server serves names in the sandboxes of this host's containers.
type Server struct {
	Config
	directory *directory
	wake      chan struct{}

	mu        sync.Mutex // guards all below
	local     map[string]*place
	sandboxes map[string]*sandbox // by path
}

// place is where one endpoint of this host is.
type place struct {
	network string
	name    string
	mac     fabric.MAC
	addr    netip.Addr
	// path is the sandbox's; empty until Docker or a scan told it.
	path string
	// served says that the sandbox at path serves it.
	served bool
}

// New makes a Server; nothing happens before Run.
func New(config Config) *Server {
	return &Server{
		Config: config, directory: newDirectory(), wake: make(chan struct{}, 1),
		local: make(map[string]*place), sandboxes: make(map[string]*sandbox),
	}
}

// Update takes in what changed of a network's endpoints.
func (s *Server) Update(network fabric.Network, put map[string]fabric.Endpoint, gone []string) {
	if s.Off {
		return
	}
	s.directory.update(network, put, gone)
	s.mu.Lock()
	defer s.mu.Unlock()
	if network.Swarm || network.NoNames {
		s.leave(network.ID)
		return
	}
	for _, id := range gone {
		s.drop(id)
	}
	for id, endpoint := range put {
		if endpoint.Host != s.Host {
			continue
		}
		if p := s.local[id]; p != nil {
			p.name = endpoint.Name
			continue
		}
		if len(endpoint.Addrs) > 0 {
			s.local[id] = &place{network: network.ID, name: endpoint.Name, mac: endpoint.MAC, addr: endpoint.Addrs[0].Addr()}
			s.kick()
		}
	}
}

// Forget drops a network that has no container on this host any more.
func (s *Server) Forget(network string) {
	s.directory.forget(network)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(network)
}

func (s *Server) leave(network string) {
	for id, p := range s.local {
		if p.network == network {
			s.drop(id)
		}
	}
}

// Joined notes the sandbox that Docker puts an endpoint into. Its namespace may
// not be there yet.
func (s *Server) Joined(endpoint, sandbox string) {
	if sandbox == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.local[endpoint]; p != nil && !p.served {
		p.path = s.Path(sandbox)
		s.kick()
	}
}

// drop forgets an endpoint of this host. Its sandbox is closed by the sandbox's
// own goroutine once it has none left.
func (s *Server) drop(id string) {
	p := s.local[id]
	delete(s.local, id)
	if p == nil || !p.served {
		return
	}
	if box := s.sandboxes[p.path]; box != nil {
		box.detach(id)
		s.closeEmpty(box)
	}
}

func (s *Server) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends; Docker's resolvers are in charge again then.
func (s *Server) Run(ctx context.Context) error {
	const first, most = 5 * time.Millisecond, 30 * time.Second
	var served sync.WaitGroup
	defer served.Wait()
	wait := first
	for {
		if s.locate(ctx, &served) {
			wait = most
		} else {
			wait = min(wait*3/2, most)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.wake:
			timer.Stop()
			wait = first
		case <-timer.C:
		}
	}
}

// errClosing says that a sandbox's last endpoint has just left: what comes next
// has to wait until its redirection has ended.
var errClosing = errors.New("the sandbox is being closed")

// serve has the sandbox at the seat's path serve it, which is opened if need be.
func (s *Server) serve(ctx context.Context, running *sync.WaitGroup, seat seat) error {
	box := s.sandboxAt(seat.path)
	if box == nil {
		var err error
		box, err = openSandbox(seat.path, s.directory)
		if errors.Is(err, nl.ErrNotFound) {
			return err // not yet
		}
		s.Board.Report(scopeOf(seat.path), err)
		if err != nil {
			return err
		}
		running.Go(func() { s.keep(ctx, box) })
	}
	if err := s.seat(box, seat); err != nil {
		return err
	}
	box.mixed.Store(s.mixed(box))
	return nil
}

func scopeOf(path string) health.Scope { return health.Scope{Part: health.Names, Object: path} }

func (s *Server) sandboxAt(path string) *sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sandboxes[path]
}

// seat attaches an endpoint to its sandbox, unless either has gone meanwhile.
func (s *Server) seat(box *sandbox, seat seat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if box.closing {
		return errClosing
	}
	s.sandboxes[box.path] = box
	p := s.local[seat.id]
	if p != nil {
		p.path, p.served = seat.path, true
		box.attach(seat.id, p.network)
	}
	s.closeEmpty(box)
	return nil
}

// closeEmpty has a sandbox close that no endpoint is in.
func (s *Server) closeEmpty(box *sandbox) {
	if !box.closing && len(box.networks()) == 0 {
		box.closing = true
		close(box.empty)
	}
}

// keep keeps a sandbox up until its endpoints or its namespace are gone. Those
// endpoints that are left then have to be found again.
func (s *Server) keep(ctx context.Context, box *sandbox) {
	box.keep(ctx, func(err error) { s.Board.Report(scopeOf(box.path), err) })
	s.mu.Lock()
	box.closing = true
	s.mu.Unlock()
	if err := box.close(); err != nil {
		s.Log.WithError(err).Debug("a container's sandbox went while its names were served")
	}
	s.Board.Report(scopeOf(box.path), nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sandboxes, box.path)
	for _, p := range s.local {
		if p.served && p.path == box.path {
			p.served, p.path = false, ""
		}
	}
}

// Resolution is what a container would be told, and why.
type Resolution struct {
	// From is the container that asks; empty for all of this host's networks.
	From string `json:"from,omitempty"`
	// Networks are the names of those that were searched.
	Networks []string `json:"networks"`
	Matches  []Match  `json:"matches"`
	// Docker says that the question is sent on to Docker's own resolver.
	Docker bool `json:"docker"`
}

// Resolve tells what the container from (a name, or the start of an endpoint's
// ID) would be told about name.
func (s *Server) Resolve(name, from string) (Resolution, error) {
	r := Resolution{From: from, Networks: []string{}, Matches: []Match{}}
	if s.Off {
		return r, errors.New("causeway answers no names on this host: it was started with --names=false")
	}
	networks := s.searched(from)
	if from != "" && len(networks) == 0 {
		return r, errors.New("container " + from + " is on no network of this host whose names causeway serves")
	}
	for _, id := range networks {
		r.Networks = append(r.Networks, s.directory.nameOf(id))
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		if target, ok := s.directory.reverse(networks, addr); ok {
			r.Matches = append(r.Matches, Match{Names: []string{target}, Addrs: []netip.Addr{addr}})
		}
	} else {
		r.Matches = append(r.Matches, s.directory.find(networks, plain(name))...)
	}
	r.Docker = len(r.Matches) == 0
	return r, nil
}
