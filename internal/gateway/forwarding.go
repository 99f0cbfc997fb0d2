package gateway

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

const (
	forwarding4 = "/proc/sys/net/ipv4/ip_forward"
	forwarding6 = "/proc/sys/net/ipv6/conf/all/forwarding"
)

// enableForwarding has the host forward at all, as Docker does for its own bridges. It
// stays on: others may rely on it by then.
func (g *Gateways) enableForwarding(gateway Gateway) (changed int, err error) {
	for _, path := range []string{forwarding4, forwarding6} {
		six := path == forwarding6
		if !slices.ContainsFunc(gateway.Addrs, func(a netip.Prefix) bool { return a.Addr().Is6() == six }) {
			continue
		}
		on, err := g.forwards(path)
		if err != nil || on {
			if err != nil {
				return changed, err
			}
			continue
		}
		if six {
			if err := g.keepRouters(); err != nil {
				return changed, err
			}
		}
		if err := g.set(path, "1"); err != nil {
			return changed, fmt.Errorf("have the host forward packets: %w", err)
		}
		g.Log.WithField("setting", path).Info("the host forwards packets now: a network has its gateway here")
		changed++
	}
	return changed, nil
}

func (g *Gateways) forwards(path string) (on bool, err error) {
	err = nl.Do(g.Host.NS(), func() error {
		text, err := os.ReadFile(path)
		on = strings.TrimSpace(string(text)) == "1"
		return err
	})
	return on, err
}

// keepRouters has the host keep the default routes that it learned from routers'
// advertisements: one that forwards forgets them, and takes no others, unless accept_ra is 2.
func (g *Gateways) keepRouters() error {
	routes, err := g.Host.RouteList(nil, netlink.FAMILY_V6)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Protocol != unix.RTPROT_RA || route.LinkIndex == 0 {
			continue
		}
		link, err := g.Host.LinkByIndex(route.LinkIndex)
		if err != nil {
			return fmt.Errorf("link of the route %s: %w", route, err)
		}
		path := "/proc/sys/net/ipv6/conf/" + link.Attrs().Name + "/accept_ra"
		if err := g.set(path, "2"); err != nil {
			return fmt.Errorf("keep the routers that %s hears of: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
