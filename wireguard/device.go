package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/internal/nl"
)

const (
	// resync is how often the device is looked at, though nothing was told of it.
	resync = 30 * time.Second
	device = "cw-wg0"
	// table is the number of its table of routes, and its rule's priority.
	table = 0x6377
	// program makes a device where the kernel cannot.
	program = "wireguard-go"
)

// isPassing says that an error of a socket is not one of the socket itself.
func isPassing(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, nl.ErrOverrun)
}

// concerns says whether changes may be of our device and its routes: a link of its name, or
// that something is gone.
func concerns(messages []syscall.NetlinkMessage) bool {
	for _, message := range messages {
		switch message.Header.Type {
		case unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_DELRULE:
			return true
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			link, err := netlink.LinkDeserialize(nil, message.Data)
			if err != nil || link.Attrs().Name == device {
				return true
			}
		}
	}
	return false
}

// newDevice makes a device in the kernel, or else by a process of its own.
func (d *Device) newDevice(ctx context.Context) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = device
	err := d.kernel.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = d.startProcess(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", device, err)
	}
	return d.kernel.Link(device)
}

// startProcess has wireguard-go make a device. It goes on in the background by itself,
// in a session of its own.
func (d *Device) startProcess(ctx context.Context) error {
	if d.Managed {
		return fmt.Errorf("%w in its kernel, and a managed plugin cannot leave a process running in its place: load the module wireguard, or run causeway as a service", ErrNoWireGuard)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: its kernel has none, and %s is not installed: load the module wireguard, or install the package %s", ErrNoWireGuard, program, program)
	}
	// Without cancellation: what it starts is to outlive this process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, device)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	d.Log.Infof("wireguard: %s runs %s, as this kernel has no WireGuard", program, device)
	return nil
}

// configure writes what of the key, the port and the peers is not as it should be: a
// port that is written anew closes its socket for a moment.
func (d *Device) configure() error {
	have, err := configuration()
	if err != nil {
		return err
	}
	config, port := wgtypes.Config{}, int(d.Port)
	if have.PrivateKey != d.private {
		config.PrivateKey = &d.private
	}
	if have.ListenPort != port {
		config.ListenPort = &port
	}
	if config.PrivateKey != nil || config.ListenPort != nil {
		if err := configure(config); err != nil {
			return err
		}
	}
	changed, gone := changes(peersThere(have), d.peers)
	if len(changed)+len(gone) == 0 {
		return nil
	}
	return configurePeers(changed, gone)
}

// closeWays leads what comes from the device's address to a table of routes, where
// all is unreachable but by the device.
func (d *Device) closeWays() error {
	unreachable := &netlink.Route{Table: table, Dst: everywhere(), Type: unix.RTN_UNREACHABLE, Priority: 1 << 30}
	if err := d.kernel.RouteReplace(unreachable); err != nil {
		return fmt.Errorf("make all unreachable from %s: %w", device, err)
	}
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = netlink.FAMILY_V6, table, table
	rule.Src = host(d.End().Addr())
	if err := d.kernel.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("lead what comes from %s to table %d: %w", rule.Src, table, err)
	}
	return nil
}

// openWay gives the device its address and the one route.
func (d *Device) openWay(link netlink.Link) error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"have IPv6 on " + device, func() error { return setting("ipv6/conf/"+device+"/disable_ipv6", "0") }},
		{"set MTU of " + device, func() error { return d.kernel.LinkSetMTU(link, d.Host.WireGuardMTU()) }},
		{"give " + device + " its address", func() error {
			const flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
			return d.kernel.AddrReplace(link, &netlink.Addr{IPNet: host(d.End().Addr()), Flags: flags})
		}},
		{"set " + device + " up", func() error { return d.kernel.LinkSetUp(link) }},
		{"route to " + device, func() error { return d.kernel.RouteReplace(d.route(link)) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// route leads to all addresses of hosts' devices.
func (d *Device) route(link netlink.Link) *netlink.Route {
	return &netlink.Route{Table: table, Dst: uniqueLocal(), LinkIndex: link.Attrs().Index, Priority: 1}
}

// flaw says what of the device others have taken away; empty when nothing.
func (d *Device) flaw() string {
	link, err := d.kernel.Link(device)
	if err != nil {
		return device + " is gone"
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		return device + " is down"
	}
	addrs, err := d.kernel.AddrList(link, netlink.FAMILY_V6)
	want := d.End().Addr()
	found := false
	for _, addr := range addrs {
		found = found || nl.Addr(addr.IP) == want
	}
	if err != nil || !found {
		return device + " has lost its address"
	}
	routes, err := d.kernel.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
	if err != nil || len(routes) < 2 {
		return "the routes to " + device + " are gone"
	}
	rules, err := d.kernel.RuleList(netlink.FAMILY_V6)
	for _, rule := range rules {
		if rule.Table == table && rule.Src != nil && nl.Addr(rule.Src.IP) == want {
			return ""
		}
	}
	if err != nil {
		return ""
	}
	return "the rule that leads to " + device + " is gone"
}

func setting(path, value string) error {
	err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("this kernel has no IPv6, which encrypted networks use between hosts")
	}
	return err
}

func host(addr netip.Addr) *net.IPNet {
	return &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
}

// everywhere is ::/0, and uniqueLocal fd00::/8 (RFC 4193 §3.1).
func everywhere() *net.IPNet {
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

func uniqueLocal() *net.IPNet {
	return &net.IPNet{IP: netip.AddrFrom16([16]byte{0xfd}).AsSlice(), Mask: net.CIDRMask(8, 128)}
}
