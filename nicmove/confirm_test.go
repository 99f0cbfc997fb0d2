package nicmove

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

// pingsFrom asks the addresses from the namespace.
func pingsFrom(ns netns.NsHandle, addrs ...string) func(device, nic string) ([]Question, func()) {
	return func(string, string) ([]Question, func()) {
		var questions []Question
		for _, addr := range addrs {
			questions = append(questions, Question{Name: "the machine " + addr, Ask: func(ctx context.Context) error {
				return nl.Do(ns, func() error { return exec.CommandContext(ctx, "ping", "-n", "-c1", "-W1", addr).Run() })
			}})
		}
		return questions, func() {}
	}
}

// cutOff has the host's firewall let in what comes through eth0 alone.
func cutOff(l *lantest.LAN) {
	l.Host.Script(`iptables-nft -A INPUT -i lo -j ACCEPT
		iptables-nft -A INPUT -i eth0 -j ACCEPT
		iptables-nft -P INPUT DROP`)
}

func TestUnconfirmedMoveIsUndone(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	cutOff(l)
	before := l.Host.Text("eth0")
	folder := t.TempDir()
	m := newMover(t, l.Host, folder)
	m.Questions = pingsFrom(l.Host.NS, "192.0.2.1", "2001:db8:1::1", "192.0.2.99") // nobody has the last
	steps := 0
	m.kernel.step = func(string) { steps++ }
	want := "with eth0 in bridge cw-eth0, the machine 192.0.2.1 no longer answered, so that it was moved back: " +
		"look for a firewall rule or other setup that names eth0 and has to name cw-eth0 too, or move it all the same with -o force=true"
	for _, test := range []struct {
		what   string
		ensure func() error
	}{
		{"Try", func() error { return m.Try(t.Context(), nic("eth0")) }},
		{"Ensure", func() error { _, err := m.Ensure(t.Context(), nic("eth0"), true); return err }},
	} {
		what := test.what
		if err := test.ensure(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got  %v\nwant %s", what, err, want)
		}
		if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
			t.Errorf("%s: the host is not as it was:\n%s", what, diff)
		}
		if files, _ := os.ReadDir(folder); len(files) > 0 {
			t.Errorf("%s: the journal has %v", what, files)
		}
		l.Router.Reaches("192.0.2.10")
	}
	steps = 0
	if _, err := m.Ensure(t.Context(), nic("eth0"), true); !errors.As(err, new(*UnconfirmedError)) || steps > 0 {
		t.Errorf("at once after it: %v, with %d steps", err, steps)
	}
	l.Host.Run("iptables-nft", "-A", "INPUT", "-i", "cw-eth0", "-j", "ACCEPT")
	if err := m.Try(t.Context(), nic("eth0")); err != nil {
		t.Errorf("with the rule for the bridge: %v", err)
	}
	if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
		t.Errorf("the trial was not undone:\n%s", diff)
	}
	if _, err := m.Ensure(t.Context(), nic("eth0"), true); err != nil {
		t.Errorf("after a trial that went well: %v", err)
	}
	l.Host.Reaches("192.0.2.1")
}

// TestMoveWithoutAnAnswerBefore has nobody to ask, or is forced.
func TestMoveWithoutAnAnswerBefore(t *testing.T) {
	t.Parallel()
	for name, confirm := range map[string]bool{"nobody answers": true, "forced": false} {
		t.Run(name, func(t *testing.T) {
			l := lantest.NewLAN(t)
			cutOff(l)
			m := newMover(t, l.Host, t.TempDir())
			m.Questions = pingsFrom(l.Host.NS, "192.0.2.1")
			if confirm {
				l.Router.IP("link set eth0 down")
			}
			if _, err := m.Ensure(t.Context(), nic("eth0"), confirm); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMoveThatIsGivenUp has a caller that waits no longer: before the move, and
// after it.
func TestMoveThatIsGivenUp(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Text("eth0")
	m := newMover(t, l.Host, t.TempDir())
	for _, when := range []string{"eth0", "cw-eth0"} {
		ctx, cancel := context.WithCancel(t.Context())
		m.Questions = func(device, _ string) ([]Question, func()) {
			return []Question{{Name: "the caller", Ask: func(context.Context) error {
				if device == when {
					cancel()
					return ctx.Err()
				}
				return nil
			}}}, func() {}
		}
		_, err := m.Ensure(ctx, nic("eth0"), true)
		if !errors.Is(err, context.Canceled) || errors.As(err, new(*UnconfirmedError)) || len(m.refusals) > 0 {
			t.Errorf("given up on %s: %v, refused %v", when, err, m.refusals)
		}
		if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
			t.Errorf("given up on %s: the host is not as it was:\n%s", when, diff)
		}
	}
}

// TestKilledBeforeItIsConfirmed dies when all is moved. The next start confirms,
// or moves back.
func TestKilledBeforeItIsConfirmed(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]bool{"and is cut off": true, "and all is well": false} {
		t.Run(name, func(t *testing.T) {
			l := lantest.NewLAN(t)
			if cut {
				cutOff(l)
			}
			before := l.Host.Text("eth0")
			folder := t.TempDir()
			if _, killed := killed(l, folder, "confirm", 1000); !killed {
				t.Fatal("it was not killed")
			}
			if got := l.Host.Text("cw-eth0"); !strings.Contains(got, "192.0.2.10/24") {
				t.Fatalf("it was killed before all was moved: the bridge has\n%s", got)
			}
			m := newMover(t, l.Host, folder)
			m.Questions = pingsFrom(l.Host.NS, "192.0.2.1")
			err := m.Recover(t.Context())
			if cut != errors.As(err, new(*UnconfirmedError)) {
				t.Errorf("Recover: %v", err)
			}
			l.Host.Reaches("192.0.2.1")
			if got := l.Host.Text("eth0"); cut != (got == before) {
				t.Errorf("the NIC has\n%s", got)
			}
			if moved := len(m.Places()) == 1; moved == cut {
				t.Errorf("places: %v", m.Places())
			}
		})
	}
}

// TestNICIsTakenOutAgainAndAgain has another program manage the NIC, as
// systemd-networkd does without KeepMaster=yes.
func TestNICIsTakenOutAgainAndAgain(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	before := l.Host.Text("eth0")
	m := newMover(t, l.Host, t.TempDir())
	s := nic("eth0")
	apply(t, m, s)
	for range lossLimit {
		l.Host.IP("link set eth0 nomaster")
		repairs(t, m, s)
		l.Router.Reaches("192.0.2.10")
	}
	l.Host.IP("link set eth0 nomaster")
	want := fmt.Sprintf("eth0 was taken out of bridge cw-eth0 %d times within a minute by another program", lossLimit+1)
	for range 2 {
		_, err := m.Ensure(t.Context(), s, false)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "KeepMaster=yes") {
			t.Errorf("got  %v\nwant %s …", err, want)
		}
	}
	if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
		t.Errorf("the NIC has not got back what it had:\n%s", diff)
	}
	l.Router.Reaches("192.0.2.10")
}
