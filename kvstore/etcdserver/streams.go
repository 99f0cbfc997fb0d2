package etcdserver

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// streams ends the watches and lease renewals of other hosts: all when the server
// closes, as etcd alone would wait several seconds for them, and those of a host
// whose certificate is revoked, which etcd looks at in the handshake alone.
type streams struct {
	ctx context.Context
	end context.CancelFunc
	// calls are the requests that are being answered, other than streams.
	calls sync.WaitGroup

	mu      sync.Mutex // guards revoked and open
	revoked map[string]bool
	open    map[string]map[*context.CancelFunc]bool // by serial number
}

func newStreams() *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{ctx: ctx, end: cancel, open: make(map[string]map[*context.CancelFunc]bool)}
}

// revoke refuses the holders of these certificates, by serial number, from now on.
func (s *streams) revoke(serials []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked = make(map[string]bool, len(serials))
	for _, serial := range serials {
		s.revoked[serial] = true
		for cancel := range s.open[serial] {
			(*cancel)()
		}
	}
}

func (s *streams) isRevoked(serial string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revoked[serial]
}

// enter notes an open stream until leave is called.
func (s *streams) enter(serial string, cancel context.CancelFunc) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[serial] == nil {
		s.open[serial] = make(map[*context.CancelFunc]bool)
	}
	s.open[serial][&cancel] = true
	if s.revoked[serial] {
		cancel()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open[serial], &cancel)
		if len(s.open[serial]) == 0 {
			delete(s.open, serial)
		}
	}
}

// interceptors are what the server calls the streams by.
func (s *streams) interceptors() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainStreamInterceptor(s.intercept), grpc.ChainUnaryInterceptor(s.interceptUnary)}
}

var (
	// errRevoked has a code that clients do not try again for, and ErrClosing one
	// that they do.
	errRevoked = status.Error(codes.PermissionDenied, "this host's certificate is revoked")
	ErrClosing = status.Error(codes.Unavailable, "the store is closing")
)

// intercept is a [grpc.StreamServerInterceptor].
func (s *streams) intercept(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	serial := serialOf(ctx)
	defer s.enter(serial, cancel)()
	err := handle(server, endingStream{stream, ctx})
	switch {
	case s.isRevoked(serial):
		return errRevoked
	case s.ctx.Err() != nil:
		return ErrClosing
	}
	return err
}

// interceptUnary is a [grpc.UnaryServerInterceptor].
func (s *streams) interceptUnary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if s.isRevoked(serialOf(ctx)) {
		return nil, errRevoked
	}
	if !s.begin() {
		return nil, ErrClosing
	}
	defer s.calls.Done()
	return handle(ctx, request)
}

// begin counts a call, unless the server is closing.
func (s *streams) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.calls.Add(1)
	return true
}

// drain takes no more calls and waits until those that have come are answered, for
// a moment: the client of one that is cut off cannot know whether it was done.
func (s *streams) drain() {
	s.mu.Lock()
	s.end()
	s.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(2 * time.Second):
	}
}

// serialOf is the serial number of the certificate that the other end has shown;
// empty without TLS.
func serialOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return ""
	}
	return info.State.PeerCertificates[0].SerialNumber.String()
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }
