package underlay

import (
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/planetest"
)

// TestPlane holds the plane to what all of them promise. The NIC that carries
// the hosts' own addresses is the parent.
func TestPlane(t *testing.T) {
	text := func(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
		m := &machine{t: t, name: host.Name, ns: host.NS}
		return timers.ReplaceAllString(m.run("bridge", "-d", "link")+m.run("bridge", "vlan")+
			m.run("ip", "-d", "-o", "link", "show", "dev", bridgeName(segment.Network)), "timer") +
			m.text(bridgeName(segment.Network)) + m.text("eth0")
	}
	planetest.Run(t, planetest.Config{
		Mode: fabric.ModeUnderlay, VTEP: netip.MustParseAddr("10.99.0.0"), OneNetwork: true,
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			return openPlane(t, host.NS, host.Dir)
		},
		Network: func(int) fabric.Network { return fabric.Network{Parent: "eth0"} },
		Text:    text,
		Cut: func(t *testing.T, host *planetest.Host, _ fabric.Segment) {
			m := &machine{t: t, name: host.Name, ns: host.NS}
			m.ip("link set eth0 nomaster")
		},
	})
}
