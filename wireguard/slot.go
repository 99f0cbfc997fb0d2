package wireguard

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

const (
	// firstTable is the number of the first device's table of routes, and its rule's priority.
	firstTable = 0x6377
	slots      = 2
)

// slot is the place of one device: its name, port and routes. A key that is gone leaves
// its address there, by which nothing leads anywhere.
type slot struct {
	number  int
	addr    netip.Addr
	private wgtypes.Key // the zero Key: there is to be no device
}

// slots are those of the keys, the one in use first, and that of the last address.
func (k keyring) slots() []slot {
	places := []slot{{k.slot, addrOf(k.current), k.current}}
	switch {
	case k.rotates():
		places = append(places, slot{1 - k.slot, addrOf(k.other), k.other})
	default:
		places = append(places, slot{1 - k.slot, k.past, wgtypes.Key{}})
	}
	return places
}

// isNext says that the slot has the next key. Its device greets nobody: the others' shall
// greet it, which shows that they can.
func (k keyring) isNext(s slot) bool { return s.inUse() && s.private == k.other && !k.switched }

func (s slot) name() string { return deviceName(s.number) }

func (s slot) table() int { return firstTable + s.number }

// inUse says that there is to be a device.
func (s slot) inUse() bool { return s.private != (wgtypes.Key{}) }

func deviceName(number int) string { return fmt.Sprintf("cw-wg%d", number) }

func isDevice(name string) bool { return name == deviceName(0) || name == deviceName(1) }

// route leads to all addresses of hosts' devices.
func (s slot) route(link netlink.Link) *netlink.Route {
	return &netlink.Route{Table: s.table(), Dst: uniqueLocal(), LinkIndex: link.Attrs().Index, Priority: 1}
}
