package underlay

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/nicmove"
)

// TestFirewallThatNamesTheNIC has firewalls that cut the host off when its NIC is
// in a bridge, as each tool makes them, and what the refusal says no longer
// answered. The last line of a case lets the bridge through as well.
func TestFirewallThatNamesTheNIC(t *testing.T) {
	const ping4, ping6 = "the gateway 192.0.2.1 (by ping)", "the gateway 2001:db8:1::1 (by ping)"
	const input = "nft add table inet fw\nnft add chain inet fw in { type filter hook input priority 0; policy drop; }\nnft add rule inet fw in iif lo accept\n" +
		"nft add rule inet fw in icmpv6 type { 133, 134, 135, 136 } accept\n"
	for name, test := range map[string]struct{ rules, silent, twin string }{
		"iptables": {
			"iptables-nft -A INPUT -i eth0 -j ACCEPT\niptables-nft -P INPUT DROP", ping4,
			"iptables-nft -A INPUT -i cw-eth0 -j ACCEPT",
		},
		"iptables, out, negated": {
			"iptables-nft -A OUTPUT ! -o eth0 -j DROP", ping4, "iptables-nft -R OUTPUT 1 ! -o cw-eth0 -j DROP",
		},
		"iptables, IPv6, the beginning of a name": {
			"ip6tables-nft -A INPUT -i eth+ -j ACCEPT\nip6tables-nft -A INPUT -p ipv6-icmp --icmpv6-type 136 -j ACCEPT\nip6tables-nft -A INPUT -p ipv6-icmp --icmpv6-type 135 -j ACCEPT\nip6tables-nft -P INPUT DROP",
			ping6, "ip6tables-nft -A INPUT -i cw-eth0 -j ACCEPT",
		},
		"iptables-legacy": {
			"iptables-legacy -A INPUT -i eth0 -j ACCEPT\niptables-legacy -P INPUT DROP", ping4,
			"iptables-legacy -A INPUT -i cw-eth0 -j ACCEPT",
		},
		"nft, a set":    {input + "nft add rule inet fw in iifname { wlan0, eth0 } accept", ping4 + " and " + ping6, "nft add rule inet fw in iifname cw-eth0 accept"},
		"nft, an index": {input + "nft add rule inet fw in iif eth0 accept", ping4 + " and " + ping6, "nft add rule inet fw in iifname cw-eth0 accept"},
		"nft, a map": {
			input + "nft add chain inet fw zones\nnft add rule inet fw zones iifname vmap { eth0 : accept }\nnft add rule inet fw in jump zones", ping4 + " and " + ping6,
			"nft add rule inet fw zones iifname cw-eth0 accept",
		},
		"nft, bridged frames": {
			"nft add table bridge fw\nnft add chain bridge fw in { type filter hook input priority 0; policy drop; }\nnft add rule bridge fw in ether type arp accept",
			ping4, "nft add rule bridge fw in iifname eth0 accept",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits for answers that do not come
			l := lantest.NewLAN(t)
			l.Host.Script(test.rules)
			p := newPlane(t, l.Host, t.TempDir())
			s := segment("phys", nil)
			for what, err := range map[string]error{"Check": p.Check(t.Context(), s.Network), "Apply": applied(t, p, s)} {
				var unconfirmed *nicmove.UnconfirmedError
				if !errors.As(err, &unconfirmed) || !strings.Contains(strings.Join(unconfirmed.Silent, " and "), test.silent) {
					t.Errorf("%s: got  %v\nwant %s", what, err, test.silent)
				}
			}
			l.Host.Reaches("192.0.2.1")
			l.Host.Reaches("2001:db8:1::1")
			if err := p.Check(t.Context(), segment("phys", forced).Network); err != nil {
				t.Errorf("with force: %v", err)
			}
			l.Host.Script(test.twin)
			if err := p.Check(t.Context(), s.Network); err != nil {
				t.Errorf("with the rule for the bridge: %v", err)
			}
			apply(t, p, s)
			l.Host.Reaches("192.0.2.1")
			l.Router.Reaches("2001:db8:1::10")
		})
	}
}

// TestFirewallOfNewConnections lets in the answers to what the host asked, and the
// administrator through the NIC by name: no question of the host's own would fail.
func TestFirewallOfNewConnections(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	var listener net.Listener
	err := nl.Do(l.Host.NS, func() (err error) {
		listener, err = net.Listen("tcp", "192.0.2.10:22")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	l.Host.Script(`iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
		iptables-nft -A INPUT -i eth0 -p tcp --dport 22 -j ACCEPT
		iptables-nft -P INPUT DROP`)
	before := l.Host.Run("ip", "-br", "link") + l.Host.Text("eth0")
	p := newPlane(t, l.Host, t.TempDir())
	want := "underlay: with eth0 in bridge cw-eth0, TCP 192.0.2.10:22 (to new connections) no longer answered, so that it was moved back: "
	if err := p.Check(t.Context(), segment("phys", nil).Network); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s…", err, want)
	}
	if diff := cmp.Diff(before, l.Host.Run("ip", "-br", "link")+l.Host.Text("eth0")); diff != "" {
		t.Errorf("the host is not as it was:\n%s", diff)
	}
	l.Host.Script("iptables-nft -A INPUT -i cw-eth0 -p tcp --dport 22 -j ACCEPT")
	apply(t, p, segment("phys", nil))
	var conn net.Conn
	err = nl.Do(l.Router.NS, func() (err error) {
		conn, err = net.DialTimeout("tcp", "192.0.2.10:22", 5*time.Second)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func forced(n *fabric.Network) { n.Force = true }

func applied(t *testing.T, p *Plane, s fabric.Segment) error {
	t.Helper()
	_, err := p.Apply(t.Context(), s)
	return err
}

// TestNetdevChainOfTheNIC stays with the NIC, and does no harm in a bridge: it is no
// reason to refuse the move.
func TestNetdevChainOfTheNIC(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.Script(`nft add table netdev fw
		nft add chain netdev fw in { type filter hook ingress device eth0 priority 0; policy drop; }
		nft add rule netdev fw in ether daddr ff:ff:ff:ff:ff:ff accept
		nft add rule netdev fw in ip daddr 192.0.2.10 counter accept
		nft add rule netdev fw in ether type arp accept`)
	p := newPlane(t, l.Host, t.TempDir())
	s := segment("phys", nil)
	if err := p.Check(t.Context(), s.Network); err != nil {
		t.Error(err)
	}
	apply(t, p, s)
	l.Host.Run("nft", "reset", "counters")
	l.Router.Reaches("192.0.2.10")
	if got := l.Host.Run("nft", "list", "table", "netdev", "fw"); strings.Contains(got, "packets 0 ") {
		t.Errorf("the chain sees no packets:\n%s", got)
	}
}

// TestWhatTheCallerAsksIsConfirmed has a question of the plane's user.
func TestWhatTheCallerAsksIsConfirmed(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	moved := errors.New("the host's address is on a bridge")
	p := openPlane(t, Config{HostNS: l.Host.NS, Journal: t.TempDir(), Log: logger(t.Output()), Confirm: []nicmove.Question{{
		Name: "the store", Ask: func(context.Context) error {
			if strings.Contains(l.Host.Text("eth0"), "192.0.2.10/24") {
				return nil
			}
			return moved
		},
	}}})
	err := p.Check(t.Context(), segment("phys", nil).Network)
	if err == nil || !strings.Contains(err.Error(), "the store no longer answered") {
		t.Errorf("got %v", err)
	}
}

func TestQuestionsAreOfTheDevicesGateways(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Connect(l.Host, "eth1", "203.0.113.10/24")
	l.Host.IP(`route add default via 203.0.113.1 metric 700
		-6 route add default via fe80::1 dev eth0 metric 700`)
	p := newPlane(t, l.Host, t.TempDir())
	for device, want := range map[string][]string{
		"eth0": {"192.0.2.1", "2001:db8:1::1", "fe80::1"}, "eth1": {"203.0.113.1"}, "lo": nil,
	} {
		var got []string
		for _, gateway := range p.gateways(l.Host.Link(device)) {
			got = append(got, gateway.String())
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%s: %v, want %v", device, got, want)
		}
	}
}
