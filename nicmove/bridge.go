package nicmove

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/rtmsg"
)

// makeBridge makes the record's bridge, or finds it made, with the MAC, the MTU
// and the settings of the parent, whose place it takes.
func (m *Mover) makeBridge(r *record, parent netlink.Link) (rtmsg.Device, error) {
	link, found, err := m.kernel.find(r.Bridge)
	if err != nil {
		return rtmsg.Device{}, err
	}
	if !found {
		if link, err = m.newBridge(r, parent); err != nil {
			return rtmsg.Device{}, err
		}
	}
	bridge := deviceOf(link)
	if err := m.markBridge(r, link); err != nil {
		return rtmsg.Device{}, err
	}
	if mac := macOf(parent); macOf(link) != mac {
		err := m.kernel.do("set MAC of bridge "+r.Bridge, func() error {
			return m.kernel.LinkSetHardwareAddr(link, parent.Attrs().HardwareAddr)
		})
		if err != nil {
			return rtmsg.Device{}, err
		}
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := m.settings(r, parent.Attrs().Name); err != nil {
			m.Log.WithError(err).Warnf("bridge %s does not have all settings of %s", r.Bridge, r.Parent)
		}
		// It gets the port's link-local address, and must not make one as well.
		if err := m.kernel.Silence(link); err != nil {
			return rtmsg.Device{}, err
		}
		err = m.kernel.do("set bridge "+r.Bridge+" up", func() error { return m.kernel.LinkSetUp(link) })
	}
	return bridge, err
}

func (m *Mover) newBridge(r *record, parent netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = r.Bridge, parent.Attrs().MTU, parent.Attrs().HardwareAddr
	// A bridge that snoops but has no querier on the wire loses groups, and with
	// them IPv6 neighbours: containers hear all multicast, as machines on a hub do.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := m.kernel.do("create bridge "+r.Bridge, func() error { return m.kernel.LinkAdd(bridge) }); err != nil {
		return nil, err
	}
	link, err := m.kernel.LinkByName(r.Bridge)
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", r.Bridge, err)
	}
	return link, nil
}

// markBridge marks the bridge when all else that newBridge cannot give it is done.
func (m *Mover) markBridge(r *record, link netlink.Link) error {
	if link.Attrs().Alias == m.Mark+r.Parent {
		return nil
	}
	err := m.kernel.do("set forward delay of bridge "+r.Bridge, func() error { return m.kernel.setForwardDelay(link) })
	if err != nil {
		return err
	}
	return m.kernel.do("mark bridge "+r.Bridge, func() error { return m.kernel.LinkSetAlias(link, m.Mark+r.Parent) })
}

// setForwardDelay has a port forward from its first moment on, whatever a
// user later does about STP, which is off.
func (k *kernel) setForwardDelay(link netlink.Link) error {
	req := k.socket.Request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	info := rtnl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(rtnl.IFLA_INFO_KIND, rtnl.NonZeroTerminated("bridge"))
	data := info.AddRtAttr(rtnl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(rtnl.IFLA_BR_STP_STATE, rtnl.Uint32Attr(0))
	data.AddRtAttr(rtnl.IFLA_BR_FORWARD_DELAY, rtnl.Uint32Attr(0))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (m *Mover) deleteBridge(r *record) error {
	link, found, err := m.kernel.find(r.Bridge)
	if err != nil || !found {
		return err
	}
	return m.kernel.do("delete bridge "+r.Bridge, func() error { return m.kernel.LinkDel(link) })
}

// settings gives the bridge the port's own settings (rp_filter, arp_ignore,
// disable_ipv6…), as far as they differ; followGenMode has one more.
func (m *Mover) settings(r *record, port string) error {
	return nl.Do(m.kernel.NS(), func() error {
		var errs []error
		for _, family := range []string{"ipv4", "ipv6"} {
			folder := filepath.Join(settingsRoot, family, "conf")
			files, err := os.ReadDir(filepath.Join(folder, port))
			if err != nil {
				continue // the kernel has no IPv6
			}
			for _, file := range files {
				theirs, err := os.ReadFile(filepath.Join(folder, port, file.Name()))
				if err != nil || file.Name() == genMode {
					continue // stable_secret, when none is set
				}
				value := strings.TrimSpace(string(theirs))
				if family == "ipv6" && file.Name() == acceptRA && hasRouterRoute(r.Saved) {
					value = acceptAlways
				}
				path := filepath.Join(folder, r.Bridge, file.Name())
				ours, err := os.ReadFile(path)
				if !errors.Is(err, fs.ErrNotExist) && strings.TrimSpace(string(ours)) != value {
					errs = append(errs, writeSetting(path, value))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// A NIC whose default route came by router advertisement may have accept_ra 0:
// systemd-networkd and NetworkManager read the advertisements themselves. They
// don't see those that come in through the bridge, and the route would be lost
// after its lifetime: the kernel has to take them there, as a router too (2).
const (
	acceptRA     = "accept_ra"
	acceptAlways = "2"
)

// genMode is the setting for how the kernel makes IPv6 addresses.
const genMode = "addr_gen_mode"

// followGenMode has the bridge make IPv6 addresses as the parent does. By
// netlink the kernel takes the mode for the next router's word or the next time
// that the bridge goes up; through the file it would make a link-local address at once.
func (m *Mover) followGenMode(parent netlink.Link, bridge rtmsg.Device) error {
	var theirs string
	err := nl.Do(m.kernel.NS(), func() error {
		text, _ := os.ReadFile(filepath.Join(settingsRoot, "ipv6/conf", parent.Attrs().Name, genMode))
		theirs = strings.TrimSpace(string(text))
		return nil
	})
	mode, invalid := strconv.Atoi(theirs)
	if err != nil || invalid != nil { // the kernel has no IPv6
		return err
	}
	err = m.kernel.do("set "+genMode+" of "+bridge.Name, func() error {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge.Name, Index: bridge.Index}}
		return m.kernel.LinkSetIP6AddrGenMode(link, mode)
	})
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		m.Log.WithError(err).Warnf("bridge %s does not make IPv6 addresses as %s does", bridge.Name, parent.Attrs().Name)
	}
	return nil
}

// settingsRoot shows the namespace of the thread that opens it.
const settingsRoot = "/proc/sys/net"

func writeSetting(path, value string) error {
	return os.WriteFile(path, []byte(value), 0)
}

func macOf(link netlink.Link) string { return link.Attrs().HardwareAddr.String() }
