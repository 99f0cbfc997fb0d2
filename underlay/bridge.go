package underlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// makeBridge makes the record's bridge, or finds it made, with the MAC, the MTU
// and the settings of the parent, whose place it takes.
func (p *Plane) makeBridge(r *record, parent netlink.Link) (device, error) {
	link, found, err := p.kernel.find(r.Bridge)
	if err != nil {
		return device{}, err
	}
	if !found {
		if link, err = p.newBridge(r, parent); err != nil {
			return device{}, err
		}
	}
	bridge := deviceOf(link)
	if macOf(link) != r.MAC {
		err := p.kernel.do("set MAC of bridge "+r.Bridge, func() error {
			return p.kernel.LinkSetHardwareAddr(link, r.MAC.HardwareAddr())
		})
		if err != nil {
			return device{}, err
		}
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := p.settings(r, parent.Attrs().Name); err != nil {
			p.log.WithError(err).Warnf("bridge %s does not have all settings of %s", r.Bridge, r.Parent)
		}
		err = p.kernel.do("set bridge "+r.Bridge+" up", func() error { return p.kernel.LinkSetUp(link) })
	}
	return bridge, err
}

func (p *Plane) newBridge(r *record, parent netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = r.Bridge, parent.Attrs().MTU, r.MAC.HardwareAddr()
	// A bridge that snoops but has no querier on the wire loses groups, and with
	// them IPv6 neighbours: containers hear all multicast, as machines on a hub do.
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := p.kernel.do("make bridge "+r.Bridge, func() error { return p.kernel.LinkAdd(bridge) }); err != nil {
		return nil, err
	}
	link, err := p.kernel.LinkByName(r.Bridge)
	if err != nil {
		return nil, fmt.Errorf("look for bridge %s: %w", r.Bridge, err)
	}
	return link, errors.Join(
		p.kernel.do("mark bridge "+r.Bridge, func() error { return p.kernel.LinkSetAlias(link, mark+r.Parent) }),
		p.kernel.do("set forward delay of bridge "+r.Bridge, func() error { return p.kernel.setForwardDelay(link) }),
	)
}

// mark begins the alias of links that are ours: `ip link` shows it.
const mark = "causeway underlay "

// setForwardDelay has a port forward from its first moment on, whatever a
// user later does about STP, which is off.
func (k *kernel) setForwardDelay(link netlink.Link) error {
	req := k.request(unix.RTM_NEWLINK, unix.NLM_F_ACK)
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

func (p *Plane) removeBridge(r *record) error {
	link, found, err := p.kernel.find(r.Bridge)
	if err != nil || !found {
		return err
	}
	return p.kernel.do("remove bridge "+r.Bridge, func() error { return p.kernel.LinkDel(link) })
}

// settings gives the bridge the parent's own settings (rp_filter, accept_ra,
// disable_ipv6…), as far as they differ. A VLAN's bridge takes no part in IPv6:
// the host has no business on that wire, and would believe its routers.
func (p *Plane) settings(r *record, parent string) error {
	return inNamespace(p.kernel.NS(), func() error {
		if r.VLAN != 0 {
			return writeSetting(filepath.Join(settingsRoot, "ipv6/conf", r.Bridge, "disable_ipv6"), "1")
		}
		var errs []error
		for _, family := range []string{"ipv4", "ipv6"} {
			folder := filepath.Join(settingsRoot, family, "conf")
			files, err := os.ReadDir(filepath.Join(folder, parent))
			if err != nil {
				continue // the kernel has no IPv6
			}
			for _, file := range files {
				theirs, err := os.ReadFile(filepath.Join(folder, parent, file.Name()))
				if err != nil {
					continue // stable_secret, when none is set
				}
				path := filepath.Join(folder, r.Bridge, file.Name())
				ours, err := os.ReadFile(path)
				if err == nil && string(ours) != string(theirs) {
					errs = append(errs, writeSetting(path, strings.TrimSpace(string(theirs))))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// settingsRoot shows the namespace of the thread that opens it.
const settingsRoot = "/proc/sys/net"

func writeSetting(path, value string) error {
	return os.WriteFile(path, []byte(value), 0)
}

func macOf(link netlink.Link) fabric.MAC {
	var mac fabric.MAC
	copy(mac[:], link.Attrs().HardwareAddr)
	return mac
}
