package tunnelprobe

import (
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/wire"
)

const (
	ethernetLen = 14
	ipv4Len     = 20 // without options, which no tunnel sends
	ipv6Len     = 40
	tunnelLen   = 8 + 8 // UDP and VXLAN
)

// Ear hears, on a NIC and before any packet filter, the answers that come to this host
// through tunnels.
type Ear struct {
	socket *os.File
	inner  int
	done   chan struct{}
	mu     sync.Mutex // guards heard
	heard  map[addrprobe.Station]bool
}

// Listen opens an Ear on the NIC that leads to the VTEPs of vtep's family, for VXLAN at
// port. Close ends it.
func Listen(ns netns.NsHandle, nic netlink.Link, vtep netip.Addr, port uint16) (*Ear, error) {
	outer, filter := ipv4Len, tunnelled4(port)
	if vtep.Unmap().Is6() {
		outer, filter = ipv6Len, tunnelled6(port)
	}
	inner := ethernetLen + outer + tunnelLen
	socket, err := wire.Open(ns, nic, unix.ETH_P_ALL, append(filter, replies(uint32(inner))...))
	if err != nil {
		return nil, err
	}
	e := &Ear{socket: socket, inner: inner, done: make(chan struct{}), heard: make(map[addrprobe.Station]bool)}
	go e.listen()
	return e, nil
}

func (e *Ear) listen() {
	defer close(e.done)
	frame := make([]byte, 2048)
	for {
		n, err := e.socket.Read(frame)
		if err != nil { // closed
			return
		}
		if n <= e.inner {
			continue
		}
		if station, ok := addrprobe.Answer(frame[e.inner:n]); ok {
			e.mu.Lock()
			e.heard[station] = true
			e.mu.Unlock()
		}
	}
}

// Heard says whether an answer of the station came to the NIC.
func (e *Ear) Heard(station addrprobe.Station) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[station]
}

// Close ends the listening.
func (e *Ear) Close() error {
	err := e.socket.Close()
	<-e.done
	return err
}

// tunnelled4 passes on what is VXLAN in IPv4.
func tunnelled4(port uint16) []bpf.Instruction {
	return tunnelled(unix.ETH_P_IP, ethernetLen+9, ethernetLen+ipv4Len+2, port)
}

// tunnelled6 passes on what is VXLAN in IPv6.
func tunnelled6(port uint16) []bpf.Instruction {
	return tunnelled(unix.ETH_P_IPV6, ethernetLen+6, ethernetLen+ipv6Len+2, port)
}

func tunnelled(family, protocol, destination uint32, port uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: family, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: protocol, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.LoadAbsolute{Off: destination, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(port), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
	}
}
