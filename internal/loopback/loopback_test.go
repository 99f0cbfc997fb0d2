package loopback

import (
	"net"
	"net/netip"
	"testing"
)

func TestNextPassesOverWhatIsTaken(t *testing.T) {
	first := Next()
	taken := netip.AddrPortFrom(netip.IPv4Unspecified(), first.Port()+1)
	if listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(taken)); err == nil { // else another has it
		defer listener.Close()
	}
	if next := Next(); next.Port() <= taken.Port() || next.Addr() != first.Addr() {
		t.Errorf("after %s came %s", first, next)
	}
}
