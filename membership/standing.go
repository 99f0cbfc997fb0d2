package membership

import "sync"

// standing says whether this host may act under its name: its record is written,
// and no other host has the name.
type standing struct {
	mu      sync.Mutex
	ready   chan struct{} // closed while it may
	refused error         // why it may not, once that is known
}

func newStanding() *standing { return &standing{ready: make(chan struct{})} }

// accept notes that the record was written, and says whether it was refused before.
func (s *standing) accept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.refused
	s.refused = nil
	if !isClosed(s.ready) {
		close(s.ready)
	}
	return before != nil
}

// refuse notes why the record may not be written.
func (s *standing) refuse(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = why
	if isClosed(s.ready) {
		s.ready = make(chan struct{})
	}
}

func (s *standing) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *standing) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
