package underlay

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/planetest"
)

// TestPlane holds the plane to what all of them promise. The NIC that carries
// the hosts' own addresses is the parent.
func TestPlane(t *testing.T) {
	index := regexp.MustCompile(`(?m)^\d+: |@[^:\s]+`) // a bridge that is made again has another
	text := func(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
		m := lantest.At(t, host.Name, host.NS)
		bridge, err := m.Command("ip", "-d", "-o", "link", "show", "dev", bridgeName(segment.Network))
		if err != nil {
			return "no bridge\n"
		}
		filters := strings.Count(m.Run("tc", "qdisc"), "clsact")
		return fmt.Sprintf("%d filters\n", filters) +
			index.ReplaceAllString(lantest.WithoutTimers(m.Run("bridge", "-d", "link")+m.Run("bridge", "vlan")+bridge), "") +
			m.Text(bridgeName(segment.Network)) + m.Text("eth0")
	}
	planetest.Run(t, planetest.Config{
		Mode: fabric.ModeUnderlay, VTEP: netip.MustParseAddr("10.99.0.0"), OneNetwork: true, Filters: true,
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			p, err := New(Config{HostNS: host.NS, Journal: host.Dir, Log: logger(t.Output())})
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
		Network: func(int) fabric.Network { return fabric.Network{Parent: "eth0"} },
		Text:    text,
		Cut: func(t *testing.T, host *planetest.Host, _ fabric.Segment) {
			m := lantest.At(t, host.Name, host.NS)
			m.IP("link set eth0 nomaster")
		},
		Space: func(_ *testing.T, host *planetest.Host, _ fabric.Segment) (planetest.Space, error) {
			ns, err := unix.Dup(int(host.NS))
			return planetest.Space{
				NS: netns.NsHandle(ns), Own: regexp.MustCompile(`\bcw|causeway`),
				Left: regexp.MustCompile(` eth0 (down|mtu)| cw-eth0 (mtu|address)`),
				// Addresses and routes are the host's own: whoever changes them on the bridge means it.
				Foreign: regexp.MustCompile(`inet|proto|scope`),
			}, err
		},
	})
}
