package planetest

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

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

// tunnelEnds are the addresses that the hosts' tunnels begin and end at.
func (r *Rig) tunnelEnds() map[*Host]netip.Addr {
	ends := make(map[*Host]netip.Addr)
	for _, host := range r.Hosts {
		if ends[host] = host.VTEP; r.config.Encrypted {
			ends[host] = r.state.Hosts[host.Name].WireGuard.Addr()
		}
	}
	return ends
}

// ChangeKey has the key of b's host be rotated, step by step, from the second that it has
// to the one that is returned: the containers, which are on two hosts, reach each other
// after each step, whichever host has read of it.
func ChangeKey(t *testing.T, rig *Rig, a, b *Container) (next fabric.WireGuard) {
	t.Helper()
	host := b.Host
	old, next := rig.state.Hosts[host.Name].WireGuard, Key(99)
	reach := func(step string) {
		t.Helper()
		for from, to := range map[*Container]*Container{a: b, b: a} {
			for _, addr := range to.Endpoint.Addrs {
				if !from.Ping(t, addr.Addr()) {
					t.Errorf("%s: %s is not reached", step, addr)
				}
			}
		}
	}
	reach("before")
	for _, step := range []struct {
		name string
		ends fabric.Ends
	}{
		{"the next key is told", fabric.Ends{WireGuard: old, Next: next}},
		{"it is used", fabric.Ends{WireGuard: next, Last: old}},
		{"the last one is gone", fabric.Ends{WireGuard: next}},
	} {
		if len(step.ends.AllEnds()) == 1 { // its device went first
			link, err := host.handle.LinkByName("eth0")
			must(t, err)
			must(t, host.handle.AddrDel(link, &netlink.Addr{IPNet: wholeOf(old.Addr())}))
		}
		rig.SetEnds(host, step.ends)
		for _, reads := range []*Host{host, a.Host} {
			rig.Apply(reads)
			reach(fmt.Sprintf("%s, as %s has read", step.name, reads.Name))
		}
	}
	if repaired := rig.Apply(); repaired != 0 {
		t.Errorf("%d objects were wrong at the end", repaired)
	}
	return next
}

// rekey has nothing of a key's address be left when the key has been rotated.
func rekey(t *testing.T, config Config) {
	rig, _, a, b := Two(t, config)
	old := rig.tunnelEnds()[b.Host].String()
	rig.Prune() // strangers are kept out from now on
	if !strings.Contains(rig.text(), old) {
		t.Fatal("the planes' text has no end of a tunnel")
	}
	next := ChangeKey(t, rig, a, b).Addr().String()
	if text := rig.text(); strings.Contains(text, old) || !strings.Contains(text, next) {
		t.Errorf("%s became %s:\n%s", old, next, text)
	}
}

func wholeOf(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}

// SetEnds records a host's ends of encrypted networks. Their addresses are its NIC's, and
// the other hosts' routes lead there: the planes know of no more of WireGuard.
func (r *Rig) SetEnds(host *Host, ends fabric.Ends) {
	r.t.Helper()
	record := r.state.Hosts[host.Name]
	record.Ends = ends
	r.state.Hosts[host.Name] = record
	for _, end := range ends.AllEnds() {
		whole := wholeOf(end.Addr())
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
