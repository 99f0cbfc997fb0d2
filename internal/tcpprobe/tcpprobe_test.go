package tcpprobe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestProbesAsTheWireWould has the NIC alone, and as a port of a bridge, before
// a firewall that names each.
func TestProbesAsTheWireWould(t *testing.T) {
	for _, host4 := range []bool{true, false} {
		t.Run(fmt.Sprintf("IPv4 is %v", host4), func(t *testing.T) {
			l := lantest.NewLAN(t)
			from, to := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.10")
			if !host4 {
				from, to = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:1::10")
			}
			var listener net.Listener
			err := nl.Do(l.Host.NS, func() (err error) {
				listener, err = net.Listen("tcp", ":0")
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			port := uint16(listener.Addr().(*net.TCPAddr).Port)
			if ports, err := Listening(l.Host.NS, to); err != nil || len(ports) != 1 || ports[0] != port {
				t.Errorf("listening: %v, %v; want %d", ports, err, port)
			}
			links := l.Host.Run("ip", "-br", "link")
			ask := func(port uint16) error {
				prober, err := Open(l.Host.NS, l.Host.Link("eth0"))
				if err != nil {
					t.Fatal(err)
				}
				defer prober.Close()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				return prober.Probe(ctx, from, netip.AddrPortFrom(to, port))
			}
			if err := ask(port); err != nil {
				t.Error(err)
			}
			if err := ask(port + 1); err == nil {
				t.Error("a port that nobody listens on agreed")
			}
			if got := l.Host.Run("ip", "-br", "link"); got != links {
				t.Errorf("left behind:\n%s", got)
			}
			if got := l.Host.Run("ss", "-Htan", "state", "syn-recv"); strings.TrimSpace(got) != "" {
				t.Errorf("half a connection is left:\n%s", got)
			}
			l.Host.Script(fmt.Sprintf(`nft add table inet fw
				nft add chain inet fw in { type filter hook input priority 0; policy drop; }
				nft add rule inet fw in ct state established accept
				nft add rule inet fw in icmpv6 type { 133, 134, 135, 136 } accept
				nft add rule inet fw in iifname eth0 tcp dport %d accept`, port))
			if err := ask(port); err != nil {
				t.Errorf("through the firewall: %v", err)
			}
			l.Host.IP(`link add br0 type bridge forward_delay 0
				link set br0 address ` + l.Host.Link("eth0").Attrs().HardwareAddr.String() + `
				link set br0 up
				link set eth0 master br0
				addr flush dev eth0
				addr add 192.0.2.10/24 dev br0
				-6 addr add 2001:db8:1::10/64 dev br0 nodad`)
			l.Host.Settled("br0")
			if err := ask(port); err == nil {
				t.Error("the firewall does not name the bridge, and the port agreed")
			}
			l.Host.Script(fmt.Sprintf("nft add rule inet fw in iifname br0 tcp dport %d accept", port))
			if err := ask(port); err != nil {
				t.Errorf("through the bridge: %v", err)
			}
		})
	}
}
