package underlay

import (
	"net/netip"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/planetest"
)

// TestPlane holds the plane to what all of them promise. The NIC that carries
// the hosts' own addresses is the parent.
func TestPlane(t *testing.T) {
	text := func(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
		m := lantest.At(t, host.Name, host.NS)
		return lantest.WithoutTimers(m.Run("bridge", "-d", "link")+m.Run("bridge", "vlan")+
			m.Run("ip", "-d", "-o", "link", "show", "dev", bridgeName(segment.Network))) +
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
	})
}
