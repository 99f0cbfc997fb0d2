// Package tcpprobe finds out whether this host takes new TCP connections that come in
// through one of its NICs, by its own stack and through its own firewall.
//
// A probe's path: [Open] creates a veth pair whose one end is in a namespace of its own,
// which ends with the process, and has the kernel receive through the NIC what comes in
// through the other end. [Prober.Probe] sends a SYN there (segment.go), and waits for
// the SYN+ACK that leaves through the NIC.
package tcpprobe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/wire"
)

// Prober sends SYNs into a host through one of its NICs. It is safe for concurrent use.
type Prober struct {
	ns    netns.NsHandle
	nic   netlink.Link
	own   *nl.Handle // of a namespace that only this has open
	inner string     // the end in the host's namespace
	outer *os.File   // a packet socket on the other end
}

// Open prepares to probe the host of namespace ns through nic, which may be a bridge port. It
// fails where the kernel lacks clsact or BPF.
func Open(ns netns.NsHandle, nic netlink.Link) (*Prober, error) {
	p := &Prober{ns: ns, nic: nic, inner: fmt.Sprintf("cwk%08x", rand.Uint32())}
	outside, err := nl.NewNamespace()
	if err != nil {
		return nil, err
	}
	p.own, err = nl.Open(outside)
	if err := errors.Join(err, outside.Close()); err != nil {
		return nil, err
	}
	if err := p.connect(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare to probe TCP through %s: %w", nic.Attrs().Name, err), p.Close())
	}
	return p, nil
}

func (p *Prober) connect() error {
	host, err := nl.Open(p.ns)
	if err != nil {
		return err
	}
	defer host.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = p.inner
	// The pair is deleted with the namespace of one of its ends.
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "outer", PeerNamespace: netlink.NsFd(p.own.NS())}
	if err := host.LinkAdd(pair); err != nil {
		return err
	}
	inner, err := host.Link(p.inner)
	if err != nil {
		return err
	}
	outer, err := p.own.Link("outer")
	if err != nil {
		return err
	}
	if err := errors.Join(host.Isolate(p.inner), p.own.Isolate("outer"), redirect(host, inner, p.nic.Attrs().Index)); err != nil {
		return err
	}
	if err := errors.Join(host.LinkSetUp(inner), p.own.LinkSetUp(outer)); err != nil {
		return err
	}
	p.outer, err = wire.Open(p.own.NS(), outer, 0, nil)
	return err
}

// redirect has all that comes in through from be received by the link of the index.
func redirect(host *nl.Handle, from netlink.Link, index int) error {
	program, err := loadRedirect(index)
	if err != nil {
		return fmt.Errorf("load a BPF program: %w", err)
	}
	defer unix.Close(program)
	link := from.Attrs().Index
	err = host.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: link, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}})
	if err == nil {
		err = host.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: link, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd:          program, Name: "redirect", DirectAction: true,
		})
	}
	return err
}

// loadRedirect loads `return bpf_redirect(index, BPF_F_INGRESS)` (bpf-helpers(7)).
func loadRedirect(index int) (fd int, err error) {
	const movImmediate, call, exit, bpfRedirect, ingress = 0xb7, 0x85, 0x95, 23, 1
	var program []byte
	instruction := func(code, register byte, immediate uint32) {
		program = binary.NativeEndian.AppendUint32(append(program, code, register, 0, 0), immediate)
	}
	instruction(movImmediate, 1, uint32(index))
	instruction(movImmediate, 2, ingress)
	instruction(call, 0, bpfRedirect)
	instruction(exit, 0, 0)
	license := []byte("Apache-2.0\x00")
	attrs := struct { // union bpf_attr, as BPF_PROG_LOAD has it
		typ, count         uint32
		instructions, text uint64
		logLevel, logSize  uint32
		log                uint64
		version, flags     uint32
	}{
		typ: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(program) / 8),
		instructions: uint64(uintptr(unsafe.Pointer(&program[0]))), text: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	result, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attrs)), unsafe.Sizeof(attrs))
	runtime.KeepAlive(program) // the kernel knows them by address
	runtime.KeepAlive(license)
	if errno != 0 {
		return -1, errno
	}
	return int(result), nil
}

// Close deletes the veth pair.
func (p *Prober) Close() error {
	var errs []error
	if p.outer != nil {
		errs = append(errs, p.outer.Close())
	}
	errs = append(errs, p.own.Remove("outer"), p.own.Close())
	return errors.Join(errs...)
}

// Probe opens a connection from a neighbour's address to one of the host's, and
// drops it when the host agrees.
func (p *Prober) Probe(ctx context.Context, from netip.Addr, to netip.AddrPort) error {
	s := segment{
		from: netip.AddrPortFrom(from, uint16(32768+rand.IntN(28000))), to: to, sequence: rand.Uint32(),
		destination: p.nic.Attrs().HardwareAddr,
	}
	answers, err := wire.Open(p.ns, p.nic, unix.ETH_P_ALL, s.answers())
	if err != nil {
		return err
	}
	defer answers.Close()
	defer context.AfterFunc(ctx, func() { _ = answers.SetReadDeadline(time.Now()) })()
	frame := make([]byte, 2048)
	for ctx.Err() == nil {
		if _, err := p.outer.Write(s.frame(syn)); err != nil {
			return err
		}
		if err := answers.SetReadDeadline(time.Now().Add(250 * time.Millisecond)); err != nil {
			return err
		}
		for {
			n, err := answers.Read(frame)
			if err != nil {
				break
			}
			if s.accepts(frame[:n]) {
				s.sequence++
				_, err := p.outer.Write(s.frame(rst))
				return err
			}
		}
	}
	return fmt.Errorf("no answer from %s: %w", to, ctx.Err())
}

// Listening lists the host's TCP ports that take connections to addr, the lowest first.
func Listening(ns netns.NsHandle, addr netip.Addr) (ports []uint16, err error) {
	family := uint8(unix.AF_INET)
	if addr.Is6() {
		family = unix.AF_INET6
	}
	var sockets []*netlink.Socket
	err = nl.Do(ns, func() error {
		both, err := netlink.SocketDiagTCP(unix.AF_INET6) // of both families, unless IPV6_V6ONLY is set
		if err == nil && family == unix.AF_INET {
			sockets, err = netlink.SocketDiagTCP(family)
		}
		sockets = append(sockets, both...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list listening sockets: %w", err)
	}
	const listen = 10 // TCP_LISTEN
	for _, socket := range sockets {
		at := socket.ID.Source
		if socket.State == listen && (len(at) == 0 || at.IsUnspecified() || at.Equal(net.IP(addr.AsSlice()))) {
			ports = append(ports, socket.ID.SourcePort)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}
