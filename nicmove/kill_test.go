package nicmove

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/lantest"
)

// childEnv has the test's own program be a causeway that is killed: its value is
// "<journal> <take, confirm or return> <steps to do before the kill>".
const childEnv = "CAUSEWAY_NICMOVE_CHILD"

// childNS is the file descriptor of the host's namespace in the child.
const childNS = 3

func runChild(work string) int {
	var folder, what string
	var steps int
	if _, err := fmt.Sscan(work, &folder, &what, &steps); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	p, err := open(netns.NsHandle(childNS), folder, io.Discard)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	questions := p.Questions
	p.Questions = func(device, nic string) ([]Question, func()) {
		if device == "cw-eth0" && what == "confirm" { // all is moved
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return questions(device, nic)
	}
	p.kernel.step = func(what string) {
		if steps--; steps < 0 {
			fmt.Println(what)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	ctx := context.Background()
	if what != "return" {
		_, err = p.Ensure(ctx, nic("eth0"), true)
	} else {
		err = p.Release("cw-eth0")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	return 0
}

// killed runs a causeway that dies before its step number n, and returns what
// that step was; false when it came to its end before.
func killed(l *lantest.LAN, folder, what string, n int) (step string, killed bool) {
	l.T.Helper()
	ns, err := syscall.Dup(int(l.Host.NS))
	if err != nil {
		l.T.Fatal(err)
	}
	file := os.NewFile(uintptr(ns), "host")
	defer file.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", childEnv, folder, what, n))
	cmd.ExtraFiles = []*os.File{file}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "", false
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return strings.TrimSpace(string(out)), true
	default:
		l.T.Fatalf("%s, step %d: %v: %s", what, n, err, out)
		return "", false
	}
}

// crowd gives the host about everything that a move must carry.
func crowd(l *lantest.LAN) {
	l.Connect(l.Host, "eth1", "203.0.113.10/24", "2001:db8:3::10/64")
	l.Host.IP(`addr add 192.0.2.11/24 dev eth0 label eth0:web
		addr add 192.0.2.12/32 peer 192.0.2.13/32 dev eth0
		addr add 198.18.0.1/16 dev eth0 noprefixroute
		addr add 198.19.0.1/16 dev eth0 metric 77
		addr add 192.0.2.14/24 dev eth0 valid_lft 86400 preferred_lft 43200
		-6 addr add 2001:db8:1::11/64 dev eth0 nodad valid_lft 86400 preferred_lft 0
		-6 addr add 2001:db8:1::12/128 dev eth0
		-6 addr add 2001:db8:2::10/64 dev eth0 noprefixroute
		route add 10.1.0.0/16 via 192.0.2.1 src 192.0.2.11 metric 50 proto static
		route add 10.2.0.0/16 nexthop via 192.0.2.1 dev eth0 weight 2 nexthop via 203.0.113.1 dev eth1
		route add default via 192.0.2.1 dev eth0 table 100 mtu 1300
		route add 10.3.0.0/16 dev eth0 scope link
		route add default via 192.0.2.200 metric 500
		-6 route add 2001:db8:a::/48 via 2001:db8:1::1 dev eth0 metric 50 src 2001:db8:1::10
		-6 route add 2001:db8:b::/48 nexthop via 2001:db8:1::1 dev eth0 nexthop via 2001:db8:3::1 dev eth1
		-6 route add 2001:db8:c::/48 via fe80::1 dev eth0 pref high table 100
		-6 route add default via 2001:db8:1::200 dev eth0 metric 2048
		nexthop add id 7 via 192.0.2.1 dev eth0
		nexthop add id 8 via 2001:db8:1::1 dev eth0
		route add 10.7.0.0/16 nhid 7
		-6 route add 2001:db8:d::/48 nhid 8
		rule add from 192.0.2.11 lookup 100
		neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent`)
	l.Host.Settled("eth0")
}

func TestKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	crowd(l)
	before := l.Host.Text("eth0")
	s := nic("eth0")
	folder := t.TempDir()
	apply(t, newMover(t, l.Host, folder), s)
	moved := bridgeText(l)
	want := strings.Split(strings.ReplaceAll(before, "eth0", "cw-eth0"), "\n")
	if diff := cmp.Diff(want, strings.Split(l.Host.Text("cw-eth0"), "\n"), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Fatalf("the bridge has not what the NIC had:\n%s", diff)
	}
	prune(t, newMover(t, l.Host, folder))
	if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
		t.Fatalf("the host is not as it was:\n%s", diff)
	}
	for _, what := range []string{"take", "return"} {
		for n := 0; ; n++ {
			if what == "return" {
				apply(t, newMover(t, l.Host, folder), s)
			}
			step, killed := killed(l, folder, what, n)
			where := fmt.Sprintf("%s, killed before step %d (%s)", what, n, step)
			reachable(l, where+", before the next start")
			p := newMover(t, l.Host, folder)
			if n%2 == 0 { // else the network is removed meanwhile, and nothing is left to finish
				finish(l, p, s, what == "take", moved, where)
			}
			prune(t, p)
			if diff := cmp.Diff(before, l.Host.Text("eth0")); diff != "" {
				t.Fatalf("%s: the host is not as it was:\n%s", where, diff)
			}
			if !killed {
				t.Logf("%s: %d steps", what, n)
				break
			}
		}
	}
}

// finish has the next start do what it must before it knows of any record, and
// then what the records say.
func finish(l *lantest.LAN, p *Mover, s Place, take bool, moved, where string) {
	l.T.Helper()
	if err := p.Recover(l.T.Context()); err != nil {
		l.T.Fatalf("%s: %v", where, err)
	}
	reachable(l, where)
	if !take {
		return
	}
	apply(l.T, p, s)
	if diff := cmp.Diff(moved, bridgeText(l)); diff != "" {
		l.T.Fatalf("%s: the bridge has not all:\n%s", where, diff)
	}
	if text := l.Host.Text("eth0"); strings.TrimSpace(text) != "" {
		l.T.Fatalf("%s: the NIC still has\n%s", where, text)
	}
}

// bridgeText is the bridge with all its settings, as it is each time that it is made.
func bridgeText(l *lantest.LAN) string {
	l.T.Helper()
	_, link, _ := strings.Cut(l.Host.Run("ip", "-d", "-o", "link", "show", "dev", "cw-eth0"), ": ")
	return lantest.WithoutTimers(link) + l.Host.Text("cw-eth0")
}

// reachable holds the host to being reached at its addresses.
func reachable(l *lantest.LAN, when string) {
	l.T.Helper()
	for _, addr := range []string{"192.0.2.10", "192.0.2.11", "2001:db8:1::10"} {
		lantest.Eventually(l.T, fmt.Sprintf("%s: the router reaches %s", when, addr), func() error {
			_, err := l.Router.Command("ping", "-n", "-c1", "-W1", addr)
			return err
		})
	}
}
