// Package lantest has a small physical network for tests: machines as network
// namespaces on a switch.
package lantest

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

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

// Machine is a network namespace that is deleted with the test.
type Machine struct {
	T    *testing.T
	Name string
	NS   netns.NsHandle
}

func NewMachine(t *testing.T, name string) *Machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{T: t, Name: name, NS: ns}
	t.Cleanup(func() { _ = m.NS.Close() })
	m.IP("link set lo up")
	// Link-local addresses without the seconds of duplicate address detection.
	m.Run("sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=0")
	return m
}

// Command runs a program on the machine.
func (m *Machine) Command(name string, args ...string) (string, error) {
	var out bytes.Buffer
	err := nl.Do(m.NS, func() error {
		cmd := exec.CommandContext(m.T.Context(), name, args...)
		cmd.Stdout, cmd.Stderr = &out, &out
		return cmd.Run()
	})
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w: %s", m.Name, name, strings.Join(args, " "), err, out.String())
	}
	return out.String(), err
}

func (m *Machine) Run(name string, args ...string) string {
	m.T.Helper()
	out, err := m.Command(name, args...)
	if err != nil {
		m.T.Fatal(err)
	}
	return out
}

// IP runs an ip(8) command line for each line of script.
func (m *Machine) IP(script string) {
	m.T.Helper()
	for line := range strings.Lines(script) {
		if words := strings.Fields(line); len(words) > 0 {
			m.Run("ip", words...)
		}
	}
}

func (m *Machine) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), m.NS) }

// lifetime matches what differs from one second to the next.
var lifetime = regexp.MustCompile(`_lft \d+sec`)

// Text is all that a move must preserve, as ip(8) prints it, in a fixed order.
func (m *Machine) Text(device string) string {
	m.T.Helper()
	var lines []string
	for _, args := range []string{
		"-o addr show dev " + device, "-o -4 route show table all", "-o -6 route show table all", "nexthop show dev " + device,
	} {
		for line := range strings.Lines(m.Run("ip", strings.Fields(args)...)) {
			line = lifetime.ReplaceAllString(strings.TrimSpace(line), "_lft some seconds")
			if strings.HasPrefix(args, "-o addr") {
				_, line, _ = strings.Cut(line, ": ") // without the index
			}
			if strings.HasPrefix(args, "-o addr") || strings.Contains(line+" ", "dev "+device+" ") {
				lines = append(lines, line)
			}
		}
	}
	lines = append(lines, m.Run("ip", "neigh", "show", "dev", device, "nud", "permanent"))
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func (m *Machine) Link(device string) netlink.Link {
	m.T.Helper()
	k, err := nl.Open(m.NS)
	if err != nil {
		m.T.Fatal(err)
	}
	defer k.Close()
	link, err := k.Link(device)
	if err != nil {
		m.T.Fatal(err)
	}
	return link
}

func (m *Machine) MTU(device string) string {
	m.T.Helper()
	_, after, _ := strings.Cut(m.Run("ip", "-o", "link", "show", "dev", device), " mtu ")
	return strings.Fields(after)[0]
}

// Reaches waits until a ping is answered.
func (m *Machine) Reaches(addr string) {
	m.T.Helper()
	Eventually(m.T, fmt.Sprintf("%s reaches %s", m.Name, addr), func() error {
		_, err := m.Command("ping", "-n", "-c1", "-W1", addr)
		return err
	})
}

func Eventually(t *testing.T, what string, condition func() error) {
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

// LAN is a switch with a host that has one NIC, eth0, the router and a plain machine.
type LAN struct {
	T                           *testing.T
	Switch, Host, Router, Plain *Machine
	ports                       int
}

func NewLAN(t *testing.T) *LAN {
	t.Helper()
	l := &LAN{T: t, Switch: NewMachine(t, "switch")}
	l.Switch.IP("link add sw type bridge mcast_snooping 0 forward_delay 0\nlink set sw up")
	l.Host, l.Router, l.Plain = NewMachine(t, "host"), NewMachine(t, "router"), NewMachine(t, "plain")
	l.Connect(l.Host, "eth0", "192.0.2.10/24", "2001:db8:1::10/64")
	l.Connect(l.Router, "eth0", "192.0.2.1/24", "2001:db8:1::1/64")
	l.Connect(l.Plain, "eth0", "192.0.2.200/24", "2001:db8:1::200/64")
	l.Router.IP("addr add 198.51.100.1/32 dev lo\n-6 addr add 2001:db8:ffff::1/128 dev lo nodad")
	for _, m := range []*Machine{l.Host, l.Plain} {
		m.IP("route add default via 192.0.2.1\n-6 route add default via 2001:db8:1::1 dev eth0")
	}
	return l
}

// Connect gives the machine a NIC on the switch.
func (l *LAN) Connect(m *Machine, nic string, addrs ...string) {
	l.T.Helper()
	l.ports++
	port := fmt.Sprint("p", l.ports)
	l.Switch.Run("ip", "link", "add", port, "type", "veth", "peer", "name", nic, "netns", m.Path())
	l.Switch.IP("link set " + port + " master sw up")
	m.IP("link set " + nic + " up")
	for _, addr := range addrs {
		family := "-4"
		nodad := ""
		if strings.Contains(addr, ":") {
			family, nodad = "-6", " nodad"
		}
		m.IP(family + " addr add " + addr + " dev " + nic + nodad)
	}
	m.Settled(nic)
}

// Settled waits for the end of duplicate address detection, and for the local
// routes that the kernel adds after it. The NIC has been set up: its link-local
// address comes when the kernel has seen its carrier.
func (m *Machine) Settled(nic string) {
	m.T.Helper()
	bears := !strings.Contains(m.Run("ip", "-d", "link", "show", "dev", nic), "addrgenmode none")
	Eventually(m.T, m.Name+" is settled", func() error {
		addresses, routes := m.Run("ip", "-o", "-6", "addr", "show", "up"), m.Run("ip", "-6", "route", "show", "table", "local")
		if bears && !regexp.MustCompile(nic+" +inet6 fe80:").MatchString(addresses) {
			return fmt.Errorf("%s has no link-local address:\n%s", nic, addresses)
		}
		for line := range strings.Lines(addresses) {
			addr, _, _ := strings.Cut(strings.Fields(line)[3], "/")
			if strings.Contains(line, "tentative") || !strings.Contains(routes, "local "+addr+" ") {
				return fmt.Errorf("%s%s", line, routes)
			}
		}
		return nil
	})
}

// At is a machine whose namespace another test made.
func At(t *testing.T, name string, ns netns.NsHandle) *Machine {
	return &Machine{T: t, Name: name, NS: ns}
}

// Script runs a program for each line; one that is not there skips the test.
func (m *Machine) Script(lines string) {
	m.T.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if _, err := exec.LookPath(words[0]); err != nil {
			m.T.Skip(words[0] + " is not installed")
		}
		m.Run(words[0], words[1:]...)
	}
}

// IsUp says whether a device was set up.
func (m *Machine) IsUp(device string) bool {
	m.T.Helper()
	return strings.Contains(m.Run("ip", "-o", "link", "show", "dev", device), ",UP")
}

// WithoutTimers drops the clocks of a bridge from what ip(8) says.
func WithoutTimers(text string) string { return timers.ReplaceAllString(text, "timer") }

var timers = regexp.MustCompile(`timer +[0-9.]+`)

// Reboot replaces the host by one in a new namespace, as a kernel after a boot.
func (l *LAN) Reboot(addrs ...string) *Machine {
	l.T.Helper()
	l.Switch.IP("link del p1") // the old host's cable
	l.Host = NewMachine(l.T, "host")
	l.Connect(l.Host, "eth0", addrs...)
	return l.Host
}
