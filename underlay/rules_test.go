package underlay

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
)

// TestFirewallThatNamesTheNIC has rules that would miss the bridge, as each tool
// makes them; the last two lines of a case are what the refusal says and what
// makes it go away.
func TestFirewallThatNamesTheNIC(t *testing.T) {
	for name, test := range map[string]struct{ rules, rule, twin string }{
		"in": {
			"iptables-nft -A INPUT -i lo -j ACCEPT\niptables-nft -A INPUT -i eth0 -p tcp --dport 22 -j ACCEPT",
			"rule 2 of chain INPUT in table ip filter",
			"iptables-nft -A INPUT -i cw-eth0 -p tcp --dport 22 -j ACCEPT",
		},
		"out, negated, over IPv6": {
			"ip6tables-nft -A OUTPUT ! -o eth0 -j DROP", "rule 1 of chain OUTPUT in table ip6 filter",
			"ip6tables-nft -A OUTPUT ! -o cw-eth0 -j DROP",
		},
		"the beginning of a name": {
			"iptables-nft -A INPUT -i eth+ -j ACCEPT", "rule 1 of chain INPUT in table ip filter",
			"iptables-nft -A INPUT -i cw-eth0 -j ACCEPT\niptables-nft -D INPUT 1",
		},
		"a set": {
			"nft add table inet fw\nnft add chain inet fw in { type filter hook input priority 0; }\nnft add rule inet fw in iifname { lo, eth0 } accept",
			"rule 1 of chain in in table inet fw",
			"nft replace rule inet fw in handle 3 iifname { lo, eth0, cw-eth0 } accept",
		},
		"a map, in a chain of its own": {
			"nft add table inet fw\nnft add chain inet fw zones\nnft add rule inet fw zones iifname vmap { eth0 : accept }",
			"rule 1 of chain zones in table inet fw",
			"nft flush ruleset",
		},
		"an index": {
			"nft add table ip fw\nnft add chain ip fw in\nnft add rule ip fw in iif eth0 accept",
			"rule 1 of chain in in table ip fw", "nft flush ruleset",
		},
		"legacy": {
			"iptables-legacy -t mangle -A PREROUTING -i eth0 -j ACCEPT",
			"iptables -t mangle -A PREROUTING -i eth0 -j ACCEPT",
			"iptables-legacy -t mangle -A PREROUTING -i cw-eth0 -j ACCEPT",
		},
	} {
		t.Run(name, func(t *testing.T) {
			host := newMachine(t, "host")
			host.ip("link add eth0 type veth peer name wire\nlink set wire up\nlink set eth0 up")
			host.script(test.rules)
			p := newPlane(t, host, t.TempDir())
			want := "underlay: parent eth0 is named by the host's firewall (" + test.rule + "), which will see bridge cw-eth0" +
				" in its place: add the rule for that too, or take it all the same with -o force=true"
			for what, err := range map[string]error{
				"Check": p.Check(t.Context(), segment("phys", nil).Network), "Apply": applied(t, p, segment("phys", nil)),
			} {
				if err == nil || err.Error() != want {
					t.Errorf("%s: got  %v\nwant %s", what, err, want)
				}
			}
			if err := p.Check(t.Context(), segment("phys", forcedOn("eth0")).Network); err != nil {
				t.Errorf("with force: %v", err)
			}
			host.script(test.twin)
			if err := p.Check(t.Context(), segment("phys", nil).Network); err != nil {
				t.Errorf("with the rule for the bridge: %v", err)
			}
		})
	}
}

func applied(t *testing.T, p *Plane, s fabric.Segment) error {
	t.Helper()
	_, err := p.Apply(t.Context(), s)
	return err
}

// script runs a program for each line; one that is not there skips the test.
func (m *machine) script(lines string) {
	m.t.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if _, err := exec.LookPath(words[0]); err != nil {
			m.t.Skip(words[0] + " is not installed")
		}
		m.run(words[0], words[1:]...)
	}
}

// TestHostIsReachedThroughItsFirewall has one that lets nobody in but by name.
func TestHostIsReachedThroughItsFirewall(t *testing.T) {
	l := newLAN(t)
	l.host.script(`iptables-nft -A INPUT -i eth0 -j ACCEPT
		iptables-nft -P INPUT DROP
		iptables-nft -A INPUT -i cw-eth0 -j ACCEPT
		iptables-nft -t nat -A POSTROUTING -o eth0 -s 10.0.0.0/8 -j MASQUERADE`)
	p := newPlane(t, l.host, t.TempDir())
	var out bytes.Buffer
	p.log = logger(&out)
	apply(t, p, segment("phys", nil))
	l.router.reaches("192.0.2.10")
	want := "the firewall names eth0 (rule 1 of chain POSTROUTING in table ip nat): its packets are those of bridge cw-eth0 now"
	if text := out.String(); !strings.Contains(text, want) || strings.Count(text, "firewall") != 1 {
		t.Errorf("the log says\n%swant one line with\n%s", text, want)
	}
}
