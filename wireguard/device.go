package wireguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
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
	// program makes a device where the kernel cannot.
	program = "wireguard-go"
)

// isPassing says that an error of a socket is not one of the socket itself.
func isPassing(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, nl.ErrOverrun)
}

// concerns says whether changes may be of our devices and their routes: a link of such a name, or
// that something is gone.
func concerns(messages []syscall.NetlinkMessage) bool {
	for _, message := range messages {
		switch message.Header.Type {
		case unix.RTM_DELADDR, unix.RTM_DELROUTE, unix.RTM_DELRULE:
			return true
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			link, err := netlink.LinkDeserialize(nil, message.Data)
			if err != nil || isDevice(link.Attrs().Name) {
				return true
			}
		}
	}
	return false
}

// newDevice makes a device in the kernel, or else by a process of its own.
func (d *Device) newDevice(ctx context.Context, name string) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := d.kernel.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = d.startProcess(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	return d.kernel.Link(name)
}

// startProcess has wireguard-go make a device. It goes on in the background by itself,
// in a session of its own.
func (d *Device) startProcess(ctx context.Context, name string) error {
	if d.Managed {
		return fmt.Errorf("%w in its kernel, and a managed plugin cannot leave a process running in its place: load the module wireguard, or run causeway as a service", ErrNoWireGuard)
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%w: its kernel has none, and %s is not installed: load the module wireguard, or install the package %s", ErrNoWireGuard, program, program)
	}
	// Without cancellation: what it starts is to outlive this process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), path, name)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	d.Log.Infof("wireguard: %s runs %s, as this kernel has no WireGuard", program, name)
	return nil
}

// configure writes what of the key, the port and the peers is not as it should be: a
// port that is written anew closes its socket for a moment.
func (d *Device) configure(s slot) error {
	have, err := configuration(s.name())
	if err != nil {
		return err
	}
	config, port := wgtypes.Config{}, int(d.port(s.number))
	if have.PrivateKey != s.private {
		config.PrivateKey = &s.private
	}
	if have.ListenPort != port {
		config.ListenPort = &port
	}
	if config.PrivateKey != nil || config.ListenPort != nil {
		if err := configure(s.name(), config); err != nil {
			return err
		}
	}
	if d.hosts == nil {
		return nil // it is not known yet who is a peer: those from before this start stay
	}
	changed, gone := changes(peersThere(have), d.peers)
	if len(changed)+len(gone) == 0 {
		return nil
	}
	return configurePeers(s.name(), changed, gone)
}

// closeWays leads what comes from the slot's address to a table of routes, where
// all is unreachable but by the device; what came from its last address no longer.
func (d *Device) closeWays(s slot) error {
	rule := netlink.NewRule()
	rule.Family, rule.Table, rule.Priority = netlink.FAMILY_V6, s.table(), s.table()
	if s.addr.IsValid() {
		unreachable := &netlink.Route{Table: s.table(), Dst: everywhere(), Type: unix.RTN_UNREACHABLE, Priority: 1 << 30}
		if err := d.kernel.RouteReplace(unreachable); err != nil {
			return fmt.Errorf("make all unreachable from %s: %w", s.name(), err)
		}
		rule.Src = host(s.addr)
		if err := d.kernel.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("lead what comes from %s to table %d: %w", rule.Src, s.table(), err)
		}
	}
	rules, err := d.rules(s)
	if err != nil {
		return err
	}
	for src := range rules {
		if rule.Src = host(src); src == s.addr {
			continue
		}
		if err := d.kernel.RuleDel(rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("forget the rule for %s: %w", src, err)
		}
	}
	return nil
}

// rules are the addresses that rules lead to the slot's table from.
func (d *Device) rules(s slot) (map[netip.Addr]bool, error) {
	rules, err := d.kernel.RuleList(netlink.FAMILY_V6)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	from := make(map[netip.Addr]bool)
	for _, rule := range rules {
		if rule.Table == s.table() && rule.Src != nil {
			from[nl.Addr(rule.Src.IP)] = true
		}
	}
	return from, nil
}

// openWay gives the device its address and the one route.
func (d *Device) openWay(s slot, link netlink.Link) error {
	name := s.name()
	steps := []struct {
		what string
		do   func() error
	}{
		{"have IPv6 on " + name, func() error { return setting("ipv6/conf/"+name+"/disable_ipv6", "0") }},
		{"set MTU of " + name, func() error { return d.kernel.LinkSetMTU(link, d.Host.WireGuardMTU()) }},
		{"give " + name + " its address", func() error {
			const flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
			return d.kernel.AddrReplace(link, &netlink.Addr{IPNet: host(s.addr), Flags: flags})
		}},
		{"set " + name + " up", func() error { return d.kernel.LinkSetUp(link) }},
		{"route to " + name, func() error { return d.kernel.RouteReplace(s.route(link)) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// flaw says what of a slot others have taken away; empty when nothing.
func (d *Device) flaw(s slot) string {
	if rules, err := d.rules(s); err == nil && s.addr.IsValid() && !rules[s.addr] {
		return "the rule that leads to " + s.name() + " is gone"
	}
	link, err := d.kernel.Link(s.name())
	switch {
	case !s.inUse():
		return ""
	case err != nil:
		return s.name() + " is gone"
	case link.Attrs().Flags&net.FlagUp == 0:
		return s.name() + " is down"
	}
	addrs, err := d.kernel.AddrList(link, netlink.FAMILY_V6)
	if err != nil || !slices.ContainsFunc(addrs, func(addr netlink.Addr) bool { return nl.Addr(addr.IP) == s.addr }) {
		return s.name() + " has lost its address"
	}
	routes, err := d.kernel.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: s.table()}, netlink.RT_FILTER_TABLE)
	if err != nil || len(routes) < 2 {
		return "the routes to " + s.name() + " are gone"
	}
	return ""
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
