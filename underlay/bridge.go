package underlay

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
	if err := p.markBridge(r, link); err != nil {
		return device{}, err
	}
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
		// It gets the parent's link-local address, and shall not make one as well.
		if err := p.kernel.Silence(link); err != nil {
			return device{}, err
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
	return link, nil
}

// markBridge marks the bridge when all else that newBridge cannot give it is done.
func (p *Plane) markBridge(r *record, link netlink.Link) error {
	if link.Attrs().Alias == mark+r.Parent {
		return nil
	}
	err := p.kernel.do("set forward delay of bridge "+r.Bridge, func() error { return p.kernel.setForwardDelay(link) })
	if err != nil {
		return err
	}
	return p.kernel.do("mark bridge "+r.Bridge, func() error { return p.kernel.LinkSetAlias(link, mark+r.Parent) })
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
// disable_ipv6…), as far as they differ; followGenMode has one more. A VLAN's bridge takes no part in IPv6:
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
				if err != nil || file.Name() == genMode {
					continue // stable_secret, when none is set
				}
				path := filepath.Join(folder, r.Bridge, file.Name())
				ours, err := os.ReadFile(path)
				if !errors.Is(err, fs.ErrNotExist) && string(ours) != string(theirs) {
					errs = append(errs, writeSetting(path, strings.TrimSpace(string(theirs))))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// genMode is the setting for how the kernel makes IPv6 addresses.
const genMode = "addr_gen_mode"

// followGenMode has the bridge make IPv6 addresses as the parent does. By
// netlink the kernel takes the mode for the next router's word or the next time
// that the bridge goes up; through the file it would make a link-local address at once.
func (p *Plane) followGenMode(parent netlink.Link, bridge device) error {
	var theirs string
	err := inNamespace(p.kernel.NS(), func() error {
		theirs = setting("ipv6/conf/" + parent.Attrs().Name + "/" + genMode)
		return nil
	})
	mode, invalid := strconv.Atoi(theirs)
	if err != nil || invalid != nil { // the kernel has no IPv6
		return err
	}
	err = p.kernel.do("set "+genMode+" of "+bridge.name, func() error {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge.name, Index: bridge.index}}
		return p.kernel.LinkSetIP6AddrGenMode(link, mode)
	})
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) {
		p.log.WithError(err).Warnf("bridge %s does not make IPv6 addresses as %s does", bridge.name, parent.Attrs().Name)
	}
	return nil
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
