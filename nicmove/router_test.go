package nicmove

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// advertise has the router send advertisements (RFC 4861 §4.2) all the time, of
// itself as a default router for a few seconds, and of 2001:db8:2::/64 for the
// given time in seconds.
func advertise(t *testing.T, router *lantest.Machine, lifetime *atomic.Uint32) {
	t.Helper()
	var conn *icmp.PacketConn
	err := nl.Do(router.NS, func() (err error) {
		conn, err = icmp.ListenPacket("ip6:ipv6-icmp", "::")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.IPv6PacketConn().SetMulticastHopLimit(255), conn.IPv6PacketConn().SetMulticastLoopback(false)); err != nil {
		t.Fatal(err)
	}
	to := &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: strconv.Itoa(router.Link("eth0").Attrs().Index)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			const routerLifetime, onLinkAndAutonomous = 3, 0xc0
			body := []byte{64, 0, 0, routerLifetime, 0, 0, 0, 0, 0, 0, 0, 0}
			prefix := append([]byte{3, 4, 64, onLinkAndAutonomous}, make([]byte, 28)...)
			binary.BigEndian.PutUint32(prefix[4:], lifetime.Load())
			binary.BigEndian.PutUint32(prefix[8:], lifetime.Load())
			copy(prefix[16:], netip.MustParseAddr("2001:db8:2::").AsSlice())
			message := &icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: append(body, prefix...)}}
			if text, err := message.Marshal(nil); err == nil {
				_, _ = conn.WriteTo(text, to)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-ended; _ = conn.Close() })
}

// TestRouterIsHeardThroughTheBridge has a default route that a router advertises
// for three seconds at a time, read by the kernel, or by a program such as
// systemd-networkd, which turns accept_ra off and does not see the bridge.
func TestRouterIsHeardThroughTheBridge(t *testing.T) {
	t.Parallel()
	for _, reader := range []string{"kernel", "program"} {
		t.Run(reader, func(t *testing.T) {
			l := lantest.NewLAN(t)
			l.Host.IP("-6 route del default")
			l.Router.IP("-6 addr add 2001:db8:2::1/64 dev eth0 nodad")
			var lifetime atomic.Uint32
			lifetime.Store(1000)
			if reader == "program" {
				router := strings.Split(strings.Fields(l.Router.Run("ip", "-br", "-6", "addr", "show", "dev", "eth0", "scope", "link"))[2], "/")[0]
				own := strings.Split(strings.Fields(l.Host.Run("ip", "-br", "-6", "addr", "show", "dev", "eth0", "scope", "link"))[2], "/")[0]
				l.Host.Run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=0")
				l.Host.IP("-6 route add default via " + router + " dev eth0 proto ra metric 1024 expires 3\n" +
					"-6 addr add " + strings.Replace(own, "fe80::", "2001:db8:2::", 1) + "/64 dev eth0 nodad valid_lft 1000 preferred_lft 1000")
			}
			advertise(t, l.Router, &lifetime)
			defaults := func() string { return l.Host.Run("ip", "-6", "route", "show", "default") }
			prefixOn := func(device string, seconds int) error {
				got := l.Host.Run("ip", "-6", "addr", "show", "dev", device, "to", "2001:db8:2::/64")
				for _, left := range []int{seconds, seconds - 1, seconds - 2} {
					if strings.Contains(got, fmt.Sprintf("valid_lft %dsec", left)) {
						return nil
					}
				}
				return errors.New(got)
			}
			if reader == "kernel" {
				lantest.Eventually(t, "the kernel has the router's route and address", func() error {
					if !strings.Contains(defaults(), "proto ra") {
						return errors.New(defaults())
					}
					return prefixOn("eth0", 1000)
				})
			}
			m := newMover(t, l.Host, t.TempDir())
			apply(t, m, nic("eth0"))
			lifetime.Store(5000)
			lantest.Eventually(t, "the router's prefix is renewed", func() error { return prefixOn("cw-eth0", 5000) })
			lantest.Eventually(t, "the route that was moved has run out", func() error {
				// The kernel uses it no more; it deletes it some time later.
				if got := defaults(); strings.Contains(got, "metric 1025") && !strings.Contains(got, "metric 1025 expires -") {
					return errors.New(got)
				}
				return nil
			})
			if got := defaults(); !strings.Contains(got, "dev cw-eth0 proto ra metric 1024") {
				t.Errorf("the default route is lost:\n%s", got)
			}
			l.Host.Reaches("2001:db8:ffff::1")
			prune(t, m)
			if got := defaults(); regexp.MustCompile(`expires \d{2,}sec`).MatchString(got) {
				t.Errorf("a route that had run out is there again:\n%s", got)
			}
			if reader == "kernel" { // the test has no such program, to read on
				l.Host.Reaches("2001:db8:ffff::1")
				lifetime.Store(7000)
				lantest.Eventually(t, "the router's prefix is renewed on the NIC", func() error { return prefixOn("eth0", 7000) })
			}
		})
	}
}
