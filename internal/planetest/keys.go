package planetest

import (
	"encoding/base64"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Key is an end of encrypted networks, another for each number.
func Key(number byte) fabric.WireGuard {
	const length, port = 32, 51822
	key := make([]byte, length)
	key[0] = number
	return fabric.WireGuard{Key: base64.StdEncoding.EncodeToString(key), Port: port}
}

// SetEnds records a host's ends of encrypted networks. Their addresses are its NIC's, and
// the other hosts' routes lead there: the planes know of no more of WireGuard.
func (r *Rig) SetEnds(host *Host, ends fabric.Ends) {
	r.t.Helper()
	record := r.state.Hosts[host.Name]
	record.Ends = ends
	r.state.Hosts[host.Name] = record
	for _, end := range ends.AllEnds() {
		whole := &net.IPNet{IP: end.Addr().AsSlice(), Mask: net.CIDRMask(end.Addr().BitLen(), end.Addr().BitLen())}
		for _, other := range r.Hosts {
			link, err := other.handle.LinkByName("eth0")
			must(r.t, err)
			if other == host {
				must(r.t, other.handle.AddrReplace(link, &netlink.Addr{IPNet: whole, Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE}))
				continue
			}
			must(r.t, other.handle.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: whole}))
		}
	}
}
