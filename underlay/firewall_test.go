package underlay

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// forward is the text of the host's FORWARD chains, without counters.
func (m *machine) forward(backend string) string {
	m.t.Helper()
	return m.run("iptables-"+backend, "-S", "FORWARD") + m.run("ip6tables-"+backend, "-S", "FORWARD")
}

func TestBridgedFramesPassDockersFirewall(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			if _, err := exec.LookPath("iptables-" + backend); err != nil {
				t.Skip("iptables-" + backend + " is not installed")
			}
			l := newLAN(t)
			for _, tool := range []string{"iptables-", "ip6tables-"} {
				tool += backend
				if out, err := l.host.command(tool, "-P", "FORWARD", "DROP"); err != nil {
					t.Skipf("the kernel has no %s: %s", tool, out)
				}
				l.host.run(tool, "-N", "DOCKER-USER")
				l.host.run(tool, "-A", "FORWARD", "-j", "DOCKER-USER")
				l.host.run(tool, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
			}
			if got := strings.TrimSpace(l.host.run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables")); got != "1" {
				t.Skip("br_netfilter is not on")
			}
			before := l.host.forward(backend)
			p := newPlane(t, l.host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
			s := segment("phys", nil, e)
			apply(t, p, s)
			c := l.start(p, s, e)
			c.reaches("192.0.2.1")
			c.reaches("2001:db8:1::1")
			rule := "-A FORWARD -i cw-eth0 -o cw-eth0 -m physdev --physdev-is-bridged" +
				` -m comment --comment "causeway underlay cw-eth0" -j ACCEPT`
			jump := "-A FORWARD -j DOCKER-USER\n"
			want := strings.ReplaceAll(before, jump, jump+rule+"\n")
			if diff := cmp.Diff(want, l.host.forward(backend)); diff != "" {
				t.Fatalf("the rule is not the only one, or not in its place:\n%s", diff)
			}

			l.host.run("iptables-"+backend, "-F", "FORWARD")
			if _, err := c.command("ping", "-n", "-c1", "-W1", "192.0.2.1"); err == nil {
				t.Fatal("without the rule, frames pass: the test proves nothing")
			}
			if backend == "nft" && !p.Drifted(t.Context()) {
				t.Error("the rule is gone and the plane is not stale")
			}
			p.Invalidate()
			if mended, err := p.Apply(t.Context(), s); mended != 1 || err != nil {
				t.Errorf("mended %d, %v; want the one rule", mended, err)
			}
			c.reaches("192.0.2.1")
			prune(t, p)
			if got := l.host.forward(backend); strings.Contains(got, "causeway") {
				t.Errorf("left behind:\n%s", got)
			}
		})
	}
}

// TestRuleGoesThoughItIsOfNoUse turns off what it was made for.
func TestRuleGoesThoughItIsOfNoUse(t *testing.T) {
	l := newLAN(t)
	l.host.run("iptables-nft", "-P", "FORWARD", "DROP")
	if setting := "net.bridge.bridge-nf-call-iptables"; strings.TrimSpace(l.host.run("sysctl", "-n", setting)) != "1" {
		t.Skip("br_netfilter is not on")
	}
	p := newPlane(t, l.host, t.TempDir())
	apply(t, p, segment("phys", nil))
	l.host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	prune(t, p)
	if got := l.host.run("iptables-nft", "-S", "FORWARD"); got != "-P FORWARD DROP\n" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestNoRuleWithoutNeed(t *testing.T) {
	l := newLAN(t)
	p := newPlane(t, l.host, t.TempDir())
	apply(t, p, segment("phys", nil))
	if got := l.host.run("nft", "list", "ruleset"); got != "" {
		t.Errorf("there was no FORWARD chain, and now:\n%s", got)
	}
	l.host.run("iptables-nft", "-P", "FORWARD", "DROP")
	l.host.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	p.Invalidate()
	apply(t, p, segment("phys", nil))
	if got := l.host.run("iptables-nft", "-S", "FORWARD"); got != "-P FORWARD DROP\n" {
		t.Errorf("bridged frames do not pass iptables, and now:\n%s", got)
	}
}
