package addrprobe

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
)

// TestWireHearsNeighbourMessagesOnly, of all the IPv6 on a link.
func TestWireHearsNeighbourMessagesOnly(t *testing.T) {
	l := lantest.NewLAN(t)
	addr := netip.MustParseAddr("2001:db8:1::77")
	wire, err := listenFor(l.Host.NS, l.Host.Link("eth0"), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	mac := fabric.MAC{2, 0, 0, 0, 0, 7}
	l.Plain.Reaches("2001:db8:1::10") // other ICMPv6, in and out
	if err := Announce(l.Plain.NS, l.Plain.Link("eth0"), mac, []netip.Prefix{netip.PrefixFrom(addr, 64)}); err != nil {
		t.Fatal(err)
	}
	if err := wire.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 2048)
	for {
		n, err := wire.Read(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the announcement did not come")
		}
		got, ok := parseND(frame[:n])
		if err != nil || !ok {
			t.Fatalf("% x passed the filter: %v", frame[:n], err)
		}
		if got.target == addr && got.mac == mac {
			return
		}
	}
}

// TestFilterPassesWhatIsParsed runs the program over frames of each type.
func TestFilterPassesWhatIsParsed(t *testing.T) {
	vm, err := bpf.NewVM(neighbourMessages())
	if err != nil {
		t.Fatal(err)
	}
	mac, addr := fabric.MAC{2, 0, 0, 0, 0, 7}, netip.MustParseAddr("2001:db8:1::77")
	for kind := range 256 {
		frame := nd{kind: byte(kind), mac: mac, source: addr, target: addr}.multicast(netip.IPv6LinkLocalAllNodes())
		passed, err := vm.Run(frame)
		if _, parsed := parseND(frame); err != nil || (passed > 0) != parsed {
			t.Errorf("ICMPv6 type %d: passed %d, parsed %v, %v", kind, passed, parsed, err)
		}
		frame[ethernetLen+6] = unix.IPPROTO_TCP
		if passed, err := vm.Run(frame); err != nil || passed > 0 {
			t.Errorf("TCP: passed %d, %v", passed, err)
		}
	}
}
