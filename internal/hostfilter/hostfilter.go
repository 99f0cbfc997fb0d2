// Package hostfilter is this host's own packet filter, one nftables table. It keeps
// strangers out of the tunnels, and containers away from the hosts' ports.
//
// A tunnelled packet's path: the table sees it on its way to the host's socket, after
// IP has put its fragments together (hook input). Where its VNI is that of a network
// of ours, the pair of VNI and source address must be among the senders: the VTEPs of
// the hosts that have an endpoint on that very network. A data plane says them
// ([Filter.Allow]) before it creates the network's device. Other VNIs, such as those of
// Docker's overlay on the same UDP port, pass.
//
// A container's path to a host leads over a bridge, or over its network's own gateway
// (cwg*): what comes in from there and goes to
// a host's VTEP (hooks input and forward) may be for no tunnel's port and for no port
// of causeway. Past its own host it would have that host's address, which the others
// trust. A bridge with a NIC in it is a part of the LAN, and not meant (bridges.go).
//
// All is written as differences, and as a whole where others have changed it (watch.go).
package hostfilter

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// Config is what a Filter works with. A bridge with VTEP's address is a part of the LAN.
type Config struct {
	// NS is the host's namespace ([netns.None]: the caller's); it stays the caller's to close.
	NS   netns.NsHandle
	VTEP netip.Addr
	// VXLANPort is the UDP port on which senders are checked (4789).
	VXLANPort uint16
	// Tunnels are the UDP ports that no container may send to on a host, Ports the TCP ports.
	Tunnels, Ports []uint16
	Log            *logrus.Entry
}

// Filter is the table. Its methods may be called from any goroutine.
type Filter struct {
	Config
	host *nl.Handle
	conn *nftables.Conn
	port uint32 // conn's netlink port: what it writes is told with it

	mu sync.Mutex
	wanted
	drops map[string]uint64 // as last read, by counter
}

// wanted are the elements of the table's sets.
type wanted struct {
	// senders are the VTEPs that may deliver into a network, by VNI; sorted.
	senders map[uint32][]netip.Addr
	// hosts are the VTEPs of all hosts, lans the bridges that are parts of the LAN; sorted.
	hosts []netip.Addr
	lans  []string
	// sealed are this host's addresses that its WireGuard devices alone may use; sorted.
	sealed []netip.Addr
	// ends are those of the other hosts' WireGuard devices; sorted.
	ends []netip.Addr
}

// Open writes the table. The elements of one that is there stay: containers that run
// keep their traffic.
func Open(config Config) (*Filter, error) {
	config.VXLANPort = cmp.Or(config.VXLANPort, 4789)
	host, err := nl.Open(config.NS)
	if err != nil {
		return nil, fmt.Errorf("host filter: %w", err)
	}
	f := &Filter{Config: config, host: host, wanted: wanted{senders: map[uint32][]netip.Addr{}}, drops: map[string]uint64{}}
	if err := f.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("host filter: %w", err), f.Close())
	}
	return f, nil
}

func (f *Filter) open() (err error) {
	const room = 8 << 20 // a table of 100,000 senders is one transaction of some 4 MiB
	options := func(conn *netlink.Conn) error {
		raw, err := conn.SyscallConn()
		if err == nil {
			f.port, err = portOf(raw)
		}
		return errors.Join(err, conn.SetWriteBuffer(room), conn.SetReadBuffer(room))
	}
	if f.conn, err = nftables.New(nftables.WithNetNSFd(int(f.host.NS())), nftables.AsLasting(), nftables.WithSockOptions(options)); err != nil {
		return fmt.Errorf("open nf_tables: %w", err)
	}
	if err := f.readSenders(); err != nil {
		return err
	}
	if f.lans, err = f.lanBridges(); err != nil {
		return err
	}
	return f.install()
}

// portOf gives the address of a netlink socket.
func portOf(raw syscall.RawConn) (port uint32, err error) {
	failed := raw.Control(func(fd uintptr) {
		var own unix.Sockaddr
		if own, err = unix.Getsockname(int(fd)); err == nil {
			port = own.(*unix.SockaddrNetlink).Pid
		}
	})
	return port, errors.Join(failed, err)
}

// Close closes the sockets; the table stays.
func (f *Filter) Close() error {
	err := f.host.Close()
	if f.conn != nil {
		err = errors.Join(err, f.conn.CloseLasting())
	}
	return err
}

// Allow has the VTEPs, which are sorted, and no others deliver into the network of vni.
func (f *Filter) Allow(vni uint32, vteps []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allow(vni, vteps)
}

// Admit has the VTEPs deliver into the network of vni too, beside who may already.
func (f *Filter) Admit(vni uint32, vteps []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := slices.Concat(f.senders[vni], vteps)
	slices.SortFunc(all, netip.Addr.Compare)
	return f.allow(vni, slices.Compact(all))
}

func (f *Filter) allow(vni uint32, vteps []netip.Addr) error {
	old, known := f.senders[vni]
	if known && slices.Equal(old, vteps) {
		return nil
	}
	f.senders[vni] = slices.Clone(vteps)
	added, gone := difference(old, vteps, netip.Addr.Compare)
	change := f.senderElements(vni, added)
	if !known {
		change[networksSet] = networkElements(vni)
	}
	return f.write(fmt.Sprintf("say who sends into VNI %d", vni), change, f.senderElements(vni, gone))
}

// Forget ends what Allow began, when the network's device is gone.
func (f *Filter) Forget(vni uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, known := f.senders[vni]
	if !known {
		return nil
	}
	delete(f.senders, vni)
	gone := f.senderElements(vni, old)
	gone[networksSet] = networkElements(vni)
	return f.write(fmt.Sprintf("forget who sends into VNI %d", vni), nil, gone)
}

// Protect has containers not reach causeway at these addresses, the VTEPs of all hosts.
func (f *Filter) Protect(hosts []netip.Addr) error {
	return f.become(&f.hosts, hosts, "say which addresses hosts have", hostElements)
}

// Seal has what comes for these addresses, and what leaves from them, pass WireGuard
// devices of ours alone.
func (f *Filter) Seal(addrs []netip.Addr) error {
	return f.become(&f.sealed, addrs, "seal addresses", func(some []netip.Addr) elements { return elements{sealedSet: addrElements(some)} })
}

// SealEnds has what comes from these addresses, the other hosts' ends of encrypted
// networks, pass WireGuard devices of ours alone, whatever address it is for.
func (f *Filter) SealEnds(addrs []netip.Addr) error {
	return f.become(&f.ends, addrs, "seal hosts' ends", func(some []netip.Addr) elements { return elements{endsSet: addrElements(some)} })
}

// become has have, a list of what is wanted, be addrs, and writes the difference.
func (f *Filter) become(have *[]netip.Addr, addrs []netip.Addr, what string, in func([]netip.Addr) elements) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs = slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare))
	added, gone := difference(*have, addrs, netip.Addr.Compare)
	*have = addrs
	return f.write(what, in(added), in(gone))
}

// difference compares two sorted lists.
func difference[T any](before, now []T, compare func(a, b T) int) (added, gone []T) {
	missing := func(in []T) func(T) bool {
		return func(one T) bool {
			_, found := slices.BinarySearchFunc(in, one, compare)
			return found
		}
	}
	added = slices.DeleteFunc(slices.Clone(now), missing(before))
	gone = slices.DeleteFunc(slices.Clone(before), missing(now))
	return added, gone
}

// write adds and deletes elements in one transaction. Where the table is not as it was
// written, it is written as a whole.
func (f *Filter) write(what string, add, gone elements) error {
	if add.empty() && gone.empty() {
		return nil
	}
	sets := f.sets()
	err := errors.Join(add.each(sets, f.conn.SetAddElements), gone.each(sets, f.conn.SetDeleteElements))
	if err = errors.Join(err, f.conn.Flush()); err == nil {
		return nil
	}
	if err := f.install(); err != nil {
		return fmt.Errorf("host filter: %s: %w", what, err)
	}
	return nil
}

// all are the elements of all sets.
func (f *Filter) all() elements {
	all := hostElements(f.hosts)
	all[lansSet], all[sealedSet], all[endsSet] = lanElements(f.lans), addrElements(f.sealed), addrElements(f.ends)
	for _, vni := range slices.Sorted(maps.Keys(f.senders)) {
		all[networksSet] = append(all[networksSet], networkElements(vni)...)
		for set, more := range f.senderElements(vni, f.senders[vni]) {
			all[set] = append(all[set], more...)
		}
	}
	return all
}
