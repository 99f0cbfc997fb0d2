package underlay

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/internal/lantest"
)

// forward is the text of the host's FORWARD chains, without counters.
func forwardChain(m *lantest.Machine, backend string) string {
	m.T.Helper()
	return m.Run("iptables-"+backend, "-S", "FORWARD") + m.Run("ip6tables-"+backend, "-S", "FORWARD")
}

func bridgedFramesAreFiltered(m *lantest.Machine) bool {
	out, err := m.Command("sysctl", "-n", "net.bridge.bridge-nf-call-iptables")
	return err == nil && strings.TrimSpace(out) == "1"
}

func TestBridgedFramesPassDockersFirewall(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			if _, err := exec.LookPath("iptables-" + backend); err != nil {
				t.Skip("iptables-" + backend + " is not installed")
			}
			l := lantest.NewLAN(t)
			for _, tool := range []string{"iptables-", "ip6tables-"} {
				tool += backend
				if out, err := l.Host.Command(tool, "-P", "FORWARD", "DROP"); err != nil {
					t.Skipf("the kernel has no %s: %s", tool, out)
				}
				l.Host.Run(tool, "-N", "DOCKER-USER")
				l.Host.Run(tool, "-A", "FORWARD", "-j", "DOCKER-USER")
				l.Host.Run(tool, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT")
			}
			if !bridgedFramesAreFiltered(l.Host) {
				t.Skip("br_netfilter is not on")
			}
			before := forwardChain(l.Host, backend)
			p := newPlane(t, l.Host, t.TempDir())
			e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
			s := segment("phys", nil, e)
			apply(t, p, s)
			c := start(l, p, s, e)
			c.Reaches("192.0.2.1")
			c.Reaches("2001:db8:1::1")
			rule := "-A FORWARD -i cw-eth0 -o cw-eth0 -m physdev --physdev-is-bridged" +
				` -m comment --comment "causeway underlay cw-eth0" -j ACCEPT`
			jump := "-A FORWARD -j DOCKER-USER\n"
			want := strings.ReplaceAll(before, jump, jump+rule+"\n")
			if diff := cmp.Diff(want, forwardChain(l.Host, backend)); diff != "" {
				t.Fatalf("the rule is not the only one, or not in its place:\n%s", diff)
			}

			l.Host.Run("iptables-"+backend, "-F", "FORWARD")
			if _, err := c.Command("ping", "-n", "-c1", "-W1", "192.0.2.1"); err == nil {
				t.Fatal("without the rule, frames pass: the test proves nothing")
			}
			if backend == "nft" && len(p.lostRules(t.Context())) == 0 {
				t.Error("the rule is gone and the plane does not see it")
			}
			p.Invalidate()
			if repaired, err := p.Apply(t.Context(), s); repaired != 1 || err != nil {
				t.Errorf("repaired %d, %v; want the one rule", repaired, err)
			}
			c.Reaches("192.0.2.1")
			prune(t, p)
			if got := forwardChain(l.Host, backend); strings.Contains(got, "causeway") {
				t.Errorf("left behind:\n%s", got)
			}
		})
	}
}

// TestRuleGoesThoughItIsOfNoUse turns off what it was made for.
func TestRuleGoesThoughItIsOfNoUse(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.Run("iptables-nft", "-P", "FORWARD", "DROP")
	if !bridgedFramesAreFiltered(l.Host) {
		t.Skip("br_netfilter is not on")
	}
	p := newPlane(t, l.Host, t.TempDir())
	apply(t, p, segment("phys", nil))
	l.Host.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	prune(t, p)
	if got := l.Host.Run("iptables-nft", "-S", "FORWARD"); got != "-P FORWARD DROP\n" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestNoRuleWithoutNeed(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newPlane(t, l.Host, t.TempDir())
	apply(t, p, segment("phys", nil))
	if got := l.Host.Run("nft", "list", "ruleset"); got != "" {
		t.Errorf("there was no FORWARD chain, and now:\n%s", got)
	}
	l.Host.Run("iptables-nft", "-P", "FORWARD", "DROP")
	l.Host.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
	p.Invalidate()
	apply(t, p, segment("phys", nil))
	if got := l.Host.Run("iptables-nft", "-S", "FORWARD"); got != "-P FORWARD DROP\n" {
		t.Errorf("bridged frames do not pass iptables, and now:\n%s", got)
	}
}
