// Package loopback gives tests addresses to listen on that nobody else takes.
package loopback

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
)

var given atomic.Uint32 //nolint:gochecknoglobals // the process has one row of addresses

// Next gives an address that it gave nobody before. Its IP address is this
// process' own: a port of 127.0.0.1 that is free now can be a connection's, or
// another process', when it is listened on. A port that some process has on all
// addresses is passed over.
func Next() netip.AddrPort {
	pid := os.Getpid()
	ip := netip.AddrFrom4([4]byte{127, byte(100 + pid>>16%100), byte(pid >> 8), byte(pid)})
	for {
		next := netip.AddrPortFrom(ip, uint16(2000+given.Add(1)))
		listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(next))
		if err == nil && listener.Close() == nil {
			return next
		}
	}
}
