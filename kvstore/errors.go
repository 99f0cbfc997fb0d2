package kvstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/causeway-net/causeway/internal/health"
)

const (
	noAnswer         = "no answer in time"
	unknownAuthority = "certificate signed by unknown authority" // as crypto/x509 says, before what it guesses
)

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
	case isDeadline(err):
		cause = noAnswer
		if known := e.cause.Load(); known != nil {
			cause = *known
		}
	case codeOf(err) == codes.Unavailable:
		cause = plainCause(err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return fmt.Errorf("store %s takes no writes, its disk or its quota is full: %w", e.name, err)
	default:
		return fmt.Errorf("store %s: %w", e.name, err)
	}
	return &unavailableError{store: e.name, cause: cause, err: err}
}

func isDeadline(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || codeOf(err) == codes.DeadlineExceeded
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
	if strings.Contains(text, unknownAuthority) {
		return unknownAuthority + ": it is another cluster's store, or the CA certificate here is not its own"
	}
	if strings.HasSuffix(text, net.ErrClosed.Error()) || strings.HasSuffix(text, context.DeadlineExceeded.Error()) {
		// gRPC closes a connection itself when the server says nothing on it.
		return noAnswer
	}
	return strings.ReplaceAll(text, `\"`, `"`)
}

type failFastKey struct{}

// FailFast marks requests that fail at once while the store is known to be away, with
// ErrUnavailable.
func FailFast(ctx context.Context) context.Context {
	return context.WithValue(ctx, failFastKey{}, true)
}

func failsFast(ctx context.Context) bool { return ctx.Value(failFastKey{}) != nil }

// report notes whether the store answers, for FailFast requests and for the Board.
// An outage is one fault whatever its cause becomes; another store is one of its own.
func (e *Etcd) report(err error) {
	if !errors.Is(err, ErrUnavailable) {
		e.away.Store(nil)
		e.board.Report(health.Scope{Part: health.Store}, nil)
		return
	}
	before := e.away.Swap(&err)
	if before == nil || errors.Is(*before, ErrOtherStore) != errors.Is(err, ErrOtherStore) {
		e.board.Report(health.Scope{Part: health.Store}, err)
	}
}

// reportTask notes the outcome of a task that runs on; what is no fault is nil.
// That the store is away is one fault for all tasks.
func (e *Etcd) reportTask(what string, err error) {
	if err == nil || errors.Is(err, ErrUnavailable) {
		e.report(err)
	}
	if !errors.Is(err, ErrUnavailable) {
		e.board.Report(health.Scope{Part: health.Store, Object: what}, err)
	}
}

// reportWrite notes whether the store takes writes at all.
func (e *Etcd) reportWrite(err error) {
	scope := health.Scope{Part: health.Store, Object: "write"}
	switch {
	case err == nil, errors.Is(err, ErrConflict):
		e.board.Report(scope, nil)
	case codeOf(err) == codes.PermissionDenied, errors.Is(err, rpctypes.ErrNoSpace):
		e.board.Report(scope, fmt.Errorf("nothing can be written: %w", err))
	}
}
