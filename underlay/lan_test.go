package underlay

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(runChild(child))
	}
	goleak.VerifyTestMain(m)
}

// machine is a network namespace that goes with the test.
type machine struct {
	t    *testing.T
	name string
	ns   netns.NsHandle
}

func newMachine(t *testing.T, name string) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	m := &machine{t: t, name: name}
	err = inNamespace(here, func() (err error) {
		m.ns, err = netns.New()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.ns.Close() })
	m.ip("link set lo up")
	// Link-local addresses without the seconds of duplicate address detection.
	m.run("sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=0")
	return m
}

// command runs a program on the machine.
func (m *machine) command(name string, args ...string) (string, error) {
	var out bytes.Buffer
	err := inNamespace(m.ns, func() error {
		cmd := exec.Command(name, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w: %s", m.name, name, strings.Join(args, " "), err, out.String())
	}
	return out.String(), err
}

func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.command(name, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// ip runs an ip(8) command line for each line of script.
func (m *machine) ip(script string) {
	m.t.Helper()
	for line := range strings.Lines(script) {
		if words := strings.Fields(line); len(words) > 0 {
			m.run("ip", words...)
		}
	}
}

func (m *machine) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.ns) }

// lifetime matches what differs from one second to the next.
var lifetime = regexp.MustCompile(`_lft \d+sec`)

// text is all that a move must carry, as ip(8) tells it, in a fixed order.
func (m *machine) text(device string) string {
	m.t.Helper()
	var lines []string
	for _, args := range []string{
		"-o addr show dev " + device, "-o -4 route show table all", "-o -6 route show table all", "nexthop show dev " + device,
	} {
		for line := range strings.Lines(m.run("ip", strings.Fields(args)...)) {
			line = lifetime.ReplaceAllString(strings.TrimSpace(line), "_lft some seconds")
			if strings.HasPrefix(args, "-o addr") {
				_, line, _ = strings.Cut(line, ": ") // without the index
			}
			if strings.HasPrefix(args, "-o addr") || strings.Contains(line+" ", "dev "+device+" ") {
				lines = append(lines, line)
			}
		}
	}
	lines = append(lines, m.run("ip", "neigh", "show", "dev", device, "nud", "permanent"))
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func (m *machine) link(device string) netlink.Link {
	m.t.Helper()
	k, err := openKernel(m.ns)
	if err != nil {
		m.t.Fatal(err)
	}
	defer func() { _ = k.close() }()
	link, err := k.Link(device)
	if err != nil {
		m.t.Fatal(err)
	}
	return link
}

func (m *machine) mtu(device string) string {
	m.t.Helper()
	_, after, _ := strings.Cut(m.run("ip", "-o", "link", "show", "dev", device), " mtu ")
	return strings.Fields(after)[0]
}

// reaches waits until a ping is answered.
func (m *machine) reaches(addr string) {
	m.t.Helper()
	eventually(m.t, fmt.Sprintf("%s reaches %s", m.name, addr), func() error {
		_, err := m.command("ping", "-n", "-c1", "-W1", addr)
		return err
	})
}

func eventually(t *testing.T, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s: %v", what, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// lan is a switch with a host that has one NIC, eth0, the router and a plain machine.
type lan struct {
	t                       *testing.T
	sw, host, router, plain *machine
	ports                   int
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{t: t, sw: newMachine(t, "switch")}
	l.sw.ip("link add sw type bridge mcast_snooping 0 forward_delay 0\nlink set sw up")
	l.host, l.router, l.plain = newMachine(t, "host"), newMachine(t, "router"), newMachine(t, "plain")
	l.connect(l.host, "eth0", "192.0.2.10/24", "2001:db8:1::10/64")
	l.connect(l.router, "eth0", "192.0.2.1/24", "2001:db8:1::1/64")
	l.connect(l.plain, "eth0", "192.0.2.200/24", "2001:db8:1::200/64")
	l.router.ip("addr add 198.51.100.1/32 dev lo\n-6 addr add 2001:db8:ffff::1/128 dev lo nodad")
	for _, m := range []*machine{l.host, l.plain} {
		m.ip("route add default via 192.0.2.1\n-6 route add default via 2001:db8:1::1 dev eth0")
	}
	return l
}

// connect gives the machine a NIC on the switch.
func (l *lan) connect(m *machine, nic string, addrs ...string) {
	l.t.Helper()
	l.ports++
	port := fmt.Sprint("p", l.ports)
	l.sw.run("ip", "link", "add", port, "type", "veth", "peer", "name", nic, "netns", m.path())
	l.sw.ip("link set " + port + " master sw up")
	m.ip("link set " + nic + " up")
	for _, addr := range addrs {
		family := "-4"
		nodad := ""
		if strings.Contains(addr, ":") {
			family, nodad = "-6", " nodad"
		}
		m.ip(family + " addr add " + addr + " dev " + nic + nodad)
	}
	m.settled()
}

// settled waits for the end of duplicate address detection, and for the local
// routes that the kernel adds after it.
func (m *machine) settled() {
	m.t.Helper()
	eventually(m.t, m.name+" is settled", func() error {
		addresses, routes := m.run("ip", "-o", "-6", "addr", "show", "up"), m.run("ip", "-6", "route", "show", "table", "local")
		for line := range strings.Lines(addresses) {
			addr, _, _ := strings.Cut(strings.Fields(line)[3], "/")
			if strings.Contains(line, "tentative") || !strings.Contains(routes, "local "+addr+" ") {
				return fmt.Errorf("%s%s", line, routes)
			}
		}
		return nil
	})
}

// newPlane is the host's causeway, with the folder of its journal.
func newPlane(t *testing.T, host *machine, folder string) *Plane {
	t.Helper()
	p := openPlane(t, host.ns, folder)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func openPlane(t *testing.T, ns netns.NsHandle, folder string) *Plane {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	p, err := New(Config{HostNS: ns, Journal: folder, Log: logrus.NewEntry(log)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func segment(name string, set func(*fabric.Network), local ...fabric.Endpoint) fabric.Segment {
	s := fabric.Segment{
		Network: fabric.Network{ID: name, Name: name, Mode: fabric.ModeUnderlay, Parent: "eth0"},
		MTU:     1450, Local: local,
	}
	if set != nil {
		set(&s.Network)
	}
	return s
}

// start does what Docker does with the link that Plug made: it moves it into the
// container, gives it its addresses, and sets it up.
func (l *lan) start(p *Plane, s fabric.Segment, endpoint fabric.Endpoint) *machine {
	l.t.Helper()
	link, err := p.Plug(l.t.Context(), s, endpoint)
	if err != nil {
		l.t.Fatal(err)
	}
	c := newMachine(l.t, "container "+endpoint.ID)
	l.host.ip("link set " + link + " netns " + c.path())
	c.ip("link set " + link + " name eth0 up")
	for _, addr := range endpoint.Addrs {
		nodad := ""
		if addr.Addr().Is6() {
			nodad = " nodad"
		}
		c.ip("addr add " + addr.String() + " dev eth0" + nodad)
	}
	return c
}
