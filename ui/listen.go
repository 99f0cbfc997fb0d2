package ui

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/causeway-net/causeway/internal/plugin"
)

// Listen opens what address says: a loopback address with a port, which every user of the
// host reaches, or unix:/path, which root alone does.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("listen on %q: the path of a socket must begin with /", address)
		}
		return plugin.Listen(ctx, path)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || !isLoopback(host) {
		return nil, fmt.Errorf("listen on %q: it must be a loopback address with a port, such as 127.0.0.1:9469, or unix:/path: the page has no password", address)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return listener, nil
}

// isLoopback says whether host is this host alone, in any resolver.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
