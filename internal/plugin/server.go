// Package plugin speaks Docker's plugin protocol: JSON over HTTP on a unix
// socket that the engine finds in /run/docker/plugins.
//
// A request's path: the engine POSTs /<Service>.<Method>; [Handle] decodes
// its body into the method's own type, calls the method with a deadline, and
// encodes what it returns. An error goes back as {"Err": …}, which the engine
// shows to the user. Several services share one socket and one [Server].
package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-plugins-helpers/sdk"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
)

const (
	// maxBody is far above what an engine sends: a network with 128 subnets has 20 kB.
	maxBody = 1 << 20
	// deadline of a call: engines wait for a v1 plugin for ever, and the user with them.
	deadline = 10 * time.Second
)

// Server is one plugin with all its services.
type Server struct {
	// Observe is told each call of a method, how long it took and how it ended; nil: nobody is.
	Observe func(call string, took time.Duration, err error)

	mux *http.ServeMux
	log *logrus.Entry
	// stopping is closed when the server begins to stop.
	stopping chan struct{}
}

// NewServer makes a server that says it implements the services, such as "NetworkDriver".
func NewServer(log *logrus.Entry, services ...string) *Server {
	s := &Server{mux: http.NewServeMux(), log: log, stopping: make(chan struct{})}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, fmt.Errorf("%s is not a method of causeway", r.URL.Path))
	})
	Handle(s, "/Plugin.Activate", func(context.Context, *struct{}) (*manifest, error) {
		return &manifest{Implements: services}, nil
	})
	return s
}

type manifest struct{ Implements []string }

// Handle binds one method. The engine leaves the body out where Req has no
// fields; where it has, an empty body is an error: engines send one when they
// repeat a call that broke off, and nothing can be told from it.
func Handle[Req, Resp any](s *Server, path string, method func(context.Context, *Req) (*Resp, error)) {
	HandleWithin(s, path, deadline, method)
}

// HandleWithin is Handle for a method with a deadline of its own.
func HandleWithin[Req, Resp any](s *Server, path string, deadline time.Duration, method func(context.Context, *Req) (*Resp, error)) {
	bare := reflect.TypeFor[Req]().NumField() == 0
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		request := new(Req)
		if err := decode(w, r, request, bare); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("%s: %w", path[1:], err))
			return
		}
		// The engine may hang up and ask again: what was begun is then finished.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), deadline)
		defer cancel()
		ctx = context.WithValue(ctx, callKey{}, path[strings.IndexByte(path, '.')+1:])
		defer s.recoverPanic(w, path)
		started := time.Now()
		response, err := method(ctx, request)
		took := time.Since(started)
		if s.Observe != nil {
			s.Observe(path[1:], took, err)
		}
		log := s.log.WithField("call", path[1:]).WithField("took", took.Round(10*time.Microsecond).String())
		if err != nil {
			log.WithError(err).Warn("call refused")
			fail(w, http.StatusInternalServerError, err)
			return
		}
		log.Debug("call done")
		sdk.EncodeResponse(w, response, false)
	})
}

type callKey struct{}

// CallOf is the method that is being called, such as "CreateEndpoint"; empty where none is.
func CallOf(ctx context.Context) string {
	call, _ := ctx.Value(callKey{}).(string)
	return call
}

// Stream binds one method that asks nothing and answers with bytes, for as long as
// they come. An error before the first is answered as any; one later breaks off.
func Stream(s *Server, path string, method func(context.Context, io.Writer) error) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		s.stream(&counter{ResponseWriter: w}, path, func(w io.Writer) error { return method(r.Context(), w) })
	})
}

// Follow binds one method that asks nothing and answers until its ctx ends: when the caller
// hangs up, or the server stops. Each write is sent at once.
func Follow(s *Server, path string, method func(context.Context, io.Writer) error) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			defer cancel()
			select {
			case <-s.stopping:
			case <-ctx.Done():
			}
		}()
		s.stream(&counter{ResponseWriter: w, live: true}, path, func(w io.Writer) error {
			if err := method(ctx, w); ctx.Err() == nil {
				return err
			}
			return nil
		})
	})
}

func (s *Server) stream(w *counter, path string, method func(io.Writer) error) {
	err := method(w)
	switch {
	case err == nil:
	case w.n == 0:
		fail(w, http.StatusInternalServerError, err)
	default:
		s.log.WithField("call", path[1:]).WithError(err).Warn("call broke off")
		panic(http.ErrAbortHandler) // or the caller would take it for the end
	}
}

// counter counts the bytes that were written; with live each write is sent at once.
type counter struct {
	http.ResponseWriter
	n    int64
	live bool
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	if err == nil && c.live {
		err = http.NewResponseController(c.ResponseWriter).Flush()
	}
	return n, err
}

// HandleHTTP binds a path, or all below one that ends in "/", that is no method.
func (s *Server) HandleHTTP(path string, handler http.HandlerFunc) { s.mux.HandleFunc(path, handler) }

func decode(w http.ResponseWriter, r *http.Request, request any, bare bool) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(request)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, errors.Is(err, io.EOF) && bare:
		return nil
	case errors.Is(err, io.EOF):
		return errors.New("the request has no body: the engine lost it when it asked again; try once more")
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the request is larger than %d bytes", tooLarge.Limit)
	}
	return fmt.Errorf("the request is not valid JSON: %w", err)
}

func (s *Server) recoverPanic(w http.ResponseWriter, path string) {
	if cause := recover(); cause != nil {
		s.log.WithField("stack", string(debug.Stack())).Errorf("%s panicked: %v", path[1:], cause)
		fail(w, http.StatusInternalServerError, fmt.Errorf("%s: a fault in causeway: %v; its log has the stack", path[1:], cause))
	}
}

func fail(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", sdk.DefaultContentTypeV1_1)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct{ Err string }{err.Error()}) // the engine hung up
}

// Serve answers on the listeners until ctx ends, then finishes the calls under
// way. The listeners are closed when it returns.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	server := &http.Server{Handler: s.mux, ReadHeaderTimeout: deadline}
	server.RegisterOnShutdown(func() { close(s.stopping) })
	group, ctx := errgroup.WithContext(ctx)
	for _, listener := range listeners {
		group.Go(func() error {
			if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		})
	}
	group.Go(func() error {
		<-ctx.Done()
		finish, cancel := context.WithTimeout(context.WithoutCancel(ctx), deadline)
		defer cancel()
		return server.Shutdown(finish)
	})
	return group.Wait()
}

// Listen opens the unix socket path for root alone, making its folder where
// needed. A socket that was left behind is replaced, a live one refused.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s: another causeway answers on it", path)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, errors.Unwrap(err))
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	return listener, nil
}
