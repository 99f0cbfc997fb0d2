package underlay

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/echo"
)

// ping asks addr, by the host's own stack and through its firewall, until it
// answers or ctx ends. link is for link-local addresses.
func ping(ctx context.Context, ns netns.NsHandle, link netlink.Link, addr netip.Addr) error {
	if addr.Is6() && addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(strconv.Itoa(link.Attrs().Index))
	}
	answered, err := echo.Ask(ctx, ns, echo.Request{To: addr, Every: 250 * time.Millisecond})
	if !answered {
		return fmt.Errorf("ping %s: %w", addr.WithZone(""), err)
	}
	return nil
}
