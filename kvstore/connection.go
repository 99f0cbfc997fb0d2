package kvstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connection is an etcd client that is made at the first request: with a user,
// making it takes an answer of etcd.
type connection struct {
	// ready holds the client, nil until it was made; whoever takes it out has the turn to.
	ready chan *clientv3.Client
	dial  func(context.Context) (*clientv3.Client, error)
	// cause is why there was no connection within the last request's time; nil when there was.
	cause atomic.Pointer[string]
}

func connected(client *clientv3.Client) *connection {
	c := &connection{ready: make(chan *clientv3.Client, 1)}
	c.ready <- client
	return c
}

func dialer(life context.Context, endpoints []string, tlsConfig *tls.Config, username, password string) *connection {
	c := connected(nil)
	c.dial = func(ctx context.Context) (*clientv3.Client, error) {
		timeout := requestTimeout
		if deadline, ok := ctx.Deadline(); ok {
			timeout = time.Until(deadline)
		}
		return clientv3.New(clientv3.Config{
			Endpoints: endpoints,
			Username:  username,
			Password:  password,
			TLS:       tlsConfig,
			Context:   life,
			Logger:    zap.NewNop(),
			// Without a user, nothing waits for this.
			DialTimeout: timeout,
			// A peer that vanished without a word is noticed in 15 s.
			DialKeepAliveTime:    10 * time.Second,
			DialKeepAliveTimeout: 5 * time.Second,
			DialOptions: []grpc.DialOption{
				grpc.WithConnectParams(grpc.ConnectParams{
					// gRPC's own would wait up to two minutes after a long outage.
					Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
					MinConnectTimeout: 3 * time.Second,
				}),
				grpc.WithChainUnaryInterceptor(c.noteCause),
			},
		})
	}
	return c
}

func (c *connection) client(ctx context.Context) (*clientv3.Client, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case client := <-c.ready:
		var err error
		if client == nil {
			client, err = c.dial(ctx)
		}
		c.ready <- client
		return client, err
	}
}

// noteCause is a [grpc.UnaryClientInterceptor]. A request waits for a connection
// until its time is up; gRPC then says why there was none, and etcd's client drops that.
func (c *connection) noteCause(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	switch {
	case err == nil:
		c.cause.Store(nil)
	case status.Code(err) == codes.Unavailable,
		status.Code(err) == codes.DeadlineExceeded && strings.Contains(err.Error(), "connection error"):
		cause := plainCause(err)
		c.cause.Store(&cause)
	}
	return err
}

func (c *connection) close() error {
	client := <-c.ready
	c.ready <- client
	if client == nil {
		return nil
	}
	if err := client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the store's connection: %w", err)
	}
	return nil
}

// parseEndpoints gives config's endpoints as full URLs.
func parseEndpoints(config Config) ([]string, error) {
	if len(config.Endpoints) == 0 {
		return nil, errors.New("no endpoint of the store is given")
	}
	secure := config.CACert != "" || config.Cert != ""
	endpoints := make([]string, 0, len(config.Endpoints))
	for _, text := range config.Endpoints {
		endpoint, err := parseURL(text, secure)
		if err != nil {
			return nil, err
		}
		if secure && endpoint.Scheme == "http" {
			return nil, fmt.Errorf("store %s would be used without TLS though certificate files are given: write https://", text)
		}
		endpoints = append(endpoints, endpoint.String())
	}
	scheme, _, _ := strings.Cut(endpoints[0], ":")
	for _, endpoint := range endpoints {
		if !strings.HasPrefix(endpoint, scheme+":") {
			return nil, fmt.Errorf("store endpoints mix http and https: %s", strings.Join(endpoints, ", "))
		}
	}
	return endpoints, nil
}

// parseURL reads a URL of etcd, or a bare host:port, and fills in scheme and port.
func parseURL(text string, secure bool) (*url.URL, error) {
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
		if secure {
			full = "https://" + text
		}
	}
	u, err := url.Parse(full)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%q is not the address of a store: it must read http[s]://host:port", text)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "2379")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
