package kvstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

const noAnswer = "no answer in time"

// unavailableError is an ErrUnavailable that says which store, and why.
type unavailableError struct {
	store, cause string
	err          error
}

func (u *unavailableError) Error() string {
	return fmt.Sprintf("store %s unavailable: %s", u.store, u.cause)
}

func (u *unavailableError) Unwrap() []error { return []error{ErrUnavailable, u.err} }

// explain turns an error of the etcd client into one of this package. ctx is the caller's.
func (e *Etcd) explain(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("store %s: %w", e.name, ctx.Err())
	}
	cause := ""
	switch {
	case e.ctx.Err() != nil:
		cause = "it is closed"
	case errors.Is(err, context.DeadlineExceeded), codeOf(err) == codes.DeadlineExceeded:
		cause = noAnswer
		if known := e.conn.cause.Load(); known != nil {
			cause = *known
		}
	case codeOf(err) == codes.Unavailable:
		cause = plainCause(err)
	default:
		return fmt.Errorf("store %s: %w", e.name, err)
	}
	return &unavailableError{store: e.name, cause: cause, err: err}
}

// codeOf also knows the errors of an etcd in this process.
func codeOf(err error) codes.Code {
	var coded interface{ Code() codes.Code }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return status.Code(err)
}

// plainCause takes gRPC's wrapping off, which reads:
// rpc error: … desc = connection error: desc = "transport: Error while dialing: dial tcp HOST:PORT: connect: connection refused".
func plainCause(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if i := strings.LastIndex(text, `desc = "`); i >= 0 {
		text = strings.TrimSuffix(text[i+len(`desc = "`):], `"`)
	}
	for _, wrapping := range []string{"transport: ", "Error while dialing: ", "authentication handshake failed: ", "error reading server preface: ", "connect: ", "etcdserver: "} {
		if _, rest, found := strings.Cut(text, wrapping); found {
			text = rest
		}
	}
	if strings.HasSuffix(text, net.ErrClosed.Error()) {
		// gRPC closes a connection itself when the server says nothing on it.
		return noAnswer
	}
	return strings.ReplaceAll(text, `\"`, `"`)
}

type hastyKey struct{}

// Hasty marks requests that are not worth waiting for: while the store is known
// to be away, they fail at once.
func Hasty(ctx context.Context) context.Context { return context.WithValue(ctx, hastyKey{}, true) }

func isHasty(ctx context.Context) bool { return ctx.Value(hastyKey{}) != nil }

// outage logs that the store went away, once, and that it is back, once,
// whichever of the store's users notices first.
type outage struct {
	log *logrus.Entry
	mu  sync.Mutex
	err error // nil while the store answers
}

func (o *outage) began(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		o.log.Warn(err)
	}
	o.err = err
}

// replaced is an outage that does not end, and is told even within another.
func (o *outage) replaced(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.log.Error(err)
	o.err = err
}

func (o *outage) known() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		o.err = nil
		o.log.Info("the store answers again")
	}
}

// watchConnection notices outages that no request meets: etcd's watches wait
// through them without a word. It also asks who answers after a reconnect.
func (e *Etcd) watchConnection() {
	client, err := e.conn.client(e.ctx)
	for wait := (pause{}); err != nil; client, err = e.conn.client(e.ctx) {
		if e.ctx.Err() != nil {
			return
		}
		e.outage.began(e.explain(e.ctx, err))
		wait.after(e.ctx)
	}
	e.watchState(client)
}

func (e *Etcd) watchState(client *clientv3.Client) {
	conn := client.ActiveConnection()
	conn.Connect()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.TransientFailure, connectivity.Ready:
			err := e.Health(e.ctx)
			if e.ctx.Err() != nil {
				return
			}
			if errors.Is(err, ErrUnavailable) {
				e.outage.began(err)
			} else {
				e.outage.over()
			}
		case connectivity.Shutdown:
			return
		}
		if !conn.WaitForStateChange(e.ctx, state) {
			return
		}
	}
}
