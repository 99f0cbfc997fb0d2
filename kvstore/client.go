package kvstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/raft/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/causeway-net/causeway/kvstore/etcdserver"
)

// connect makes the client and watches its connection until Close. With a user, making
// the client is a request to etcd, which is retried.
func (e *Etcd) connect(config clientv3.Config) {
	for wait := (pause{}); e.ctx.Err() == nil; wait.after(e.ctx) {
		client, err := clientv3.New(config)
		if err != nil && e.ctx.Err() != nil {
			return
		}
		if err != nil {
			cause := plainCause(err)
			e.cause.Store(&cause)
			e.report(&unavailableError{store: e.name, cause: cause, err: err})
			continue
		}
		e.client = client
		close(e.connected)
		e.watchState(client)
		return
	}
}

func (e *Etcd) clientConfig(endpoints []string, tlsConfig *tls.Config, username, password string) clientv3.Config {
	return clientv3.Config{
		Endpoints: endpoints,
		Username:  username,
		Password:  password,
		TLS:       tlsConfig,
		Context:   e.ctx,
		Logger:    zap.NewNop(),
		// Without a user, nothing waits for this.
		DialTimeout: requestTimeout,
		// A server that vanished is noticed in 12 s, and 2 s after something was sent to
		// it: gRPC makes the timeout TCP's own as well (TCP_USER_TIMEOUT, tcp(7)).
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				// gRPC's own would wait up to two minutes after a long outage.
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
				MinConnectTimeout: 3 * time.Second,
			}),
			grpc.WithChainUnaryInterceptor(e.noteCause),
			grpc.WithStatsHandler(connectionCounter{e}),
		},
	}
}

// watchState notices outages that no request meets: etcd's watches wait through
// them without an error. For each new connection it asks which store answers.
func (e *Etcd) watchState(client *clientv3.Client) {
	e.watch.Go(func() {
		for {
			select {
			case <-e.ctx.Done():
				return
			case <-e.reconnected:
				e.checkConnection()
			}
		}
	})
	conn := client.ActiveConnection()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Shutdown; state = conn.GetState() {
		if state == connectivity.TransientFailure {
			e.checkConnection()
		}
		if !conn.WaitForStateChange(e.ctx, state) {
			return
		}
	}
}

// checkConnection reports whether the store answers. Where its revision is lower
// than before, or its cluster another, it came back from a backup: what was read
// of it is read again.
func (e *Etcd) checkConnection() {
	floor := e.revision.Load()
	response, err := e.transact(e.ctx, nil, nil, nil)
	if e.ctx.Err() != nil {
		return
	}
	e.report(err)
	if err != nil {
		return
	}
	before := e.cluster.Swap(response.Header.ClusterId)
	if before != 0 && (before != response.Header.ClusterId || response.Header.Revision < floor) {
		e.revision.Store(response.Header.Revision)
		e.memory.forgetAll()
		e.restored.close()
	}
}

// connectionCounter is a [stats.Handler] that counts the connections. gRPC calls
// it before anything is sent on one.
type connectionCounter struct{ store *Etcd }

// HandleConn implements [stats.Handler].
func (c connectionCounter) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, begins := s.(*stats.ConnBegin); begins {
		c.store.memory.forgetAll() // it may lead to a store from a backup
		c.store.connections.Add(1)
		select {
		case c.store.reconnected <- struct{}{}:
		default: // there is one that is not checked yet
		}
	}
}

// TagConn implements [stats.Handler].
func (connectionCounter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

// TagRPC implements [stats.Handler].
func (connectionCounter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements [stats.Handler].
func (connectionCounter) HandleRPC(context.Context, stats.RPCStats) {}

// noteCause is a [grpc.UnaryClientInterceptor]. A request waits for a connection
// until its time is up; gRPC then says why there was none, and etcd's client drops that.
func (e *Etcd) noteCause(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	for range 20 {
		if !isStopping(err) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond): // another member is asked then
		}
		err = invoke(ctx, method, request, reply, conn, options...)
	}
	switch {
	case err == nil:
		e.cause.Store(nil)
	case status.Code(err) == codes.Unavailable,
		status.Code(err) == codes.DeadlineExceeded && strings.Contains(err.Error(), "connection error"):
		cause := plainCause(err)
		e.cause.Store(&cause)
	}
	return err
}

// isStopping says that a member is just being stopped, or hands its leadership over
// before that, and has not done what it was asked for: it says so, or it answers nothing at all where gRPC has ended and the
// HTTP server that it is behind has not. What was being done has been drained by then.
func isStopping(err error) bool {
	s := status.Convert(err)
	switch s.Code() {
	case codes.Unavailable:
		return s.Message() == status.Convert(etcdserver.ErrClosing).Message()
	case codes.Internal:
		return strings.Contains(s.Message(), "server closed the stream without sending trailers")
	case codes.Unknown:
		// A leader that is handing over takes nothing meanwhile.
		return s.Message() == raft.ErrProposalDropped.Error() ||
			strings.Contains(s.Message(), "received from server: 200") && strings.Contains(s.Message(), "missing HTTP content-type")
	}
	return false
}

// request runs one bounded call, and explains its error.
func request[T any](ctx context.Context, e *Etcd, call func(context.Context, *clientv3.Client) (T, error)) (T, error) {
	var none T
	if away := e.away.Load(); away != nil && failsFast(ctx) {
		return none, *away
	}
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	select {
	case <-e.connected:
	case <-e.ctx.Done():
		return none, e.explain(ctx, e.ctx.Err())
	case <-bounded.Done():
		return none, e.explain(ctx, bounded.Err())
	}
	e.requests.Add(1)
	response, err := call(bounded, e.client)
	if err != nil {
		return none, e.explain(ctx, err)
	}
	return response, nil
}

// commit runs one transaction of etcd's. One that only reads is repeated when its
// connection breaks; of another it is not known whether it was done.
func (e *Etcd) commit(ctx context.Context, guards []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	writes := slices.ContainsFunc(then, func(op clientv3.Op) bool { return !op.IsGet() })
	return request(ctx, e, func(ctx context.Context, c *clientv3.Client) (*clientv3.TxnResponse, error) {
		for wait := (pause{}); ; wait.after(ctx) {
			response, err := c.Txn(ctx).If(guards...).Then(then...).Else(otherwise...).Commit()
			if err == nil || writes || codeOf(err) != codes.Unavailable || ctx.Err() != nil || e.ctx.Err() != nil {
				return response, err
			}
		}
	})
}

func closeClient(client *clientv3.Client) error {
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the store's connection: %w", err)
	}
	return nil
}
