// Package loopback gives tests addresses to listen on that nobody else takes.
package loopback

import (
	"net/netip"
	"os"
	"sync/atomic"
)

var given atomic.Uint32 //nolint:gochecknoglobals // the process has one row of addresses

// Next gives an address that it gave nobody before. Its IP address is this
// process' own: a port of 127.0.0.1 that is free now can be a connection's, or
// another process', when it is listened on.
func Next() netip.AddrPort {
	n, pid := given.Add(1), os.Getpid()
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(100 + pid>>16%100), byte(pid >> 8), byte(pid)}), uint16(2000+n))
}
