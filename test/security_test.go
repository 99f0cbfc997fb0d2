package test

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// attacked is a network that the attacks are tried on.
type attacked struct {
	name   string // as the page has it
	create []string
	// tunnel is the UDP port of its VXLAN; 0: it has none of its own.
	tunnel uint16
	theirs bool // Docker's own
}

func attackedNetworks() []attacked {
	return []attacked{
		{name: "`vxlan`", create: []string{"-d", "causeway"}, tunnel: tunnelPort},
		{name: "`vxlan`, encrypted", create: []string{"-d", "causeway", "-o", "encrypted=true"}, tunnel: tunnelPort},
		{name: "`ovs`", create: []string{"-d", "causeway", "-o", "mode=ovs"}, tunnel: tunnelPortOVS},
		{name: "`ovs`, encrypted", create: []string{"-d", "causeway", "-o", "mode=ovs", "-o", "encrypted=true"}, tunnel: tunnelPort},
		{name: "`routed`", create: []string{"-d", "causeway", "-o", "mode=routed"}},
		{name: "`routed`, encrypted", create: []string{"-d", "causeway", "-o", "mode=routed", "-o", "encrypted=true"}, tunnel: tunnelPort},
		{name: "`underlay`", create: []string{"-d", "causeway", "-o", "mode=underlay", "-o", "bridge=lan"}},
		{name: "Docker's overlay", create: []string{"-d", "overlay", "--attachable"}, tunnel: tunnelPort, theirs: true},
	}
}

// TestSecurity has the attacks of the other tests tried on a network of each mode and on
// Docker's overlay, in one lab. make test-security has it write what attackers got into the
// page that CAUSEWAY_SECURITY names.
func TestSecurity(t *testing.T) {
	page := os.Getenv("CAUSEWAY_SECURITY")
	if page == "" {
		t.Skip("it writes a page: make test-security has it")
	}
	c := up(t, lab.Options{Hosts: 2, OVS: true, WireGuard: true})
	c.joinSwarm()
	c.wireLAN()
	c.network("elsewhere", "--subnet=192.168.200.0/24")
	intruders := c.intruders("elsewhere")
	vteps := [2]netip.Addr{c.host(1).vtep(), c.host(2).vtep()}
	var columns []string
	through, past, inside, read := newFindings(), newFindings(), newFindings(), newFindings()
	for n, network := range attackedNetworks() {
		b := besieged{c.sub(t), network, fmt.Sprint("besieged", n+1), n + 1, vteps}
		if network.theirs {
			c.Cleanup(c.withoutCauseway())
		}
		b.begin()
		b.fromOutside(through, past, intruders)
		b.fromInside(inside)
		b.fromTheWire(read)
		columns = append(columns, network.name)
	}
	if t.Failed() {
		return
	}
	text := "Through the tunnel, a frame for a container comes from\n\n" + through.table(columns) +
		"\nWithout one, a packet for a container's address is routed to its host by\n\n" + past.table(columns) +
		"\nA container sends a frame\n\n" + inside.table(columns) +
		"\nOn the wire between the hosts is\n\n" + read.table(columns)
	if err := replaceBetween(page, "<!-- attacks -->\n", "<!-- end of attacks -->\n", text); err != nil {
		t.Fatal(err)
	}
}

// wireLAN puts a cable and a bridge on each host, for the mode that needs a wire of its
// own: the hosts' NICs are in bridges of Open vSwitch.
func (c *cluster) wireLAN() {
	c.Helper()
	commands := []string{"ip link add cable type veth peer name cable netns " + strconv.Itoa(c.host(2).PID())}
	for n := range c.lab.Hosts() {
		commands = append(commands, "ip link add lan type bridge", "ip link set cable master lan up", "ip link set lan up")
		for _, command := range commands {
			if _, err := c.host(n + 1).try(strings.Fields(command)...); err != nil {
				c.Fatal(err)
			}
		}
		commands = nil
	}
}

// withoutCauseway stops it on all hosts, and takes its packet filter away, which keeps
// containers from anybody's tunnels. What it returns starts it again.
func (c *cluster) withoutCauseway() (again func()) {
	c.Helper()
	for n := range c.lab.Hosts() {
		h := c.host(n + 1)
		if err := h.Causeway.Kill(c.Context()); err != nil {
			c.Fatal(err)
		}
		if _, err := h.try("nft", "delete", "table", "inet", "causeway-tunnels"); err != nil {
			c.Fatal(err)
		}
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for n := range c.lab.Hosts() {
			if err := c.host(n + 1).Causeway.Start(ctx); err != nil {
				c.Error(err)
			}
		}
	}
}

// besieged is one network under attack.
type besieged struct {
	*cluster
	attacked
	network string // its name
	number  int
	vteps   [2]netip.Addr // the hosts'
}

func (b besieged) begin() {
	b.Helper()
	args := append([]string{"network", "create"}, b.create...)
	args = append(args, fmt.Sprintf("--subnet=10.20%d.0.0/24", b.number))
	if !b.theirs { // swarm does not allocate one (engine 28.5)
		args = append(args, "--ipv6", fmt.Sprintf("--subnet=fd2%d::/64", b.number))
	}
	b.host(1).docker(append(args, b.network)...)
	b.Cleanup(func() { b.removeNetwork(b.network) })
	if !b.theirs { // that one comes to a worker with its first container
		b.everywhere(b.network)
	}
}

func (b besieged) run(host int, name string, args ...string) container {
	b.Helper()
	return b.host(host).run(b.network+name, append(args, "--net="+b.network)...)
}

// ip gives a container its addresses.
func (b besieged) ip(last int) []string {
	args := []string{fmt.Sprintf("--ip=10.20%d.0.%d", b.number, last)}
	if !b.theirs {
		args = append(args, fmt.Sprintf("--ip6=fd2%d::%d", b.number, last))
	}
	return args
}

func (b besieged) encrypted() bool { return slices.Contains(b.create, "encrypted=true") }

// fromOutside sends frames for a container to the tunnel of its host, and packets past it.
func (b besieged) fromOutside(found, past *findings, intruders []intruder) {
	b.Helper()
	victim, member := b.run(1, "victim"), b.run(2, "member")
	member.pings(victim.addr(b.network))
	b.pastTunnels(past, member, victim)
	const forged = "a machine of the LAN, with a host's address"
	if b.tunnel == 0 {
		for _, from := range intruders {
			found.note(from.name, b.name, "–")
		}
		found.note(forged, b.name, "–")
		return
	}
	frame := b.frame(member, victim)
	note := func(row string, arrived, known bool) {
		b.Helper()
		found.note(row, b.name, map[bool]string{true: "**arrives**", false: "nothing"}[arrived])
		if arrived && !known && !b.theirs {
			b.Errorf("%s: the frame of %s arrives", b.name, row)
		}
	}
	for _, from := range intruders {
		note(from.name, b.injected(from.pid, victim, frame), false)
	}
	if !b.encrypted() {
		note(forged, b.injectedAs(b.vteps[1], victim, frame), true)
		return
	}
	frame.to = netip.AddrPortFrom(b.wireguardAddr(b.host(1)), b.tunnel)
	frame.from = b.wireguardAddr(b.host(2))
	if !b.injected(b.host(2).PID(), victim, frame) {
		b.Errorf("%s: the frame of the member's own host does not arrive", b.name)
	}
	frame.through = six(b.host(1))
	for _, to := range []netip.Addr{frame.to.Addr(), frame.through} {
		frame.to = netip.AddrPortFrom(to, b.tunnel)
		note(forged, b.injectedAs(frame.from, victim, frame), false)
	}
}

// pastTunnels has a machine of the LAN route packets to the container's host, from its own
// address and from another container's, which a host that routes in clear text can't tell
// from that container's.
func (b besieged) pastTunnels(found *findings, member, victim container) {
	b.Helper()
	to := netip.MustParseAddr(victim.addr(b.network))
	packet := injection{to: netip.AddrPortFrom(to, intruderPort), through: b.vteps[0], payload: []byte(placeholder)}
	for _, try := range []struct {
		row  string
		from netip.Addr
	}{
		{"a machine of the LAN", netip.Addr{}},
		{"a machine of the LAN, with another container's address", netip.MustParseAddr(member.addr(b.network))},
	} {
		arrived := b.injectedAs(try.from, victim, packet)
		found.note(try.row, b.name, map[bool]string{true: "**arrives**", false: "nothing"}[arrived])
		if arrived && b.encrypted() {
			b.Errorf("%s: the packet of %s arrives", b.name, try.row)
		}
	}
}

func (b besieged) frame(member, victim container) injection {
	b.Helper()
	if !b.theirs {
		return b.frameFor(member, victim, b.network)
	}
	id := b.host(1).docker("network", "inspect", "--format", `{{index .Options "com.docker.network.driver.overlay.vxlanid_list"}}`, b.network)
	vni, err := strconv.ParseUint(id, 10, 24)
	if err != nil {
		b.Fatal(err)
	}
	return b.frameTo(netip.AddrPortFrom(b.vteps[0], b.tunnel), uint32(vni), member, victim, b.network)
}

// fromInside has containers send what they must not, one with no more than docker run
// gives it and one with NET_ADMIN, to one beside them and to one on the other host.
func (b besieged) fromInside(found *findings) {
	b.Helper()
	// No two have addresses that follow each other: the next one is nobody's.
	near, far := b.run(1, "near", b.ip(10)...), b.run(2, "far", b.ip(20)...)
	plain, admin := b.run(1, "plain", b.ip(30)...), b.run(1, "admin", append(b.ip(40), "--cap-add=NET_ADMIN")...)
	for _, attacker := range []container{plain, admin} {
		var names []string
		reached := make(map[string]map[outcome][]string)
		for _, at := range []struct {
			where string
			container
		}{{"beside it", near}, {"on another host", far}} {
			attacker.pings(at.addr(b.network))
			duel := b.duel(attacker, at.container)
			for _, attack := range duel.attacks() {
				if reached[attack.name] == nil {
					names = append(names, attack.name)
					reached[attack.name] = make(map[outcome][]string)
				}
				got := duel.fight(attack)
				reached[attack.name][got] = append(reached[attack.name][got], at.where)
			}
		}
		for _, name := range names {
			var cells []string
			for _, got := range []outcome{arrives, takesTraffic} {
				if where := reached[name][got]; len(where) > 0 {
					cells = append(cells, fmt.Sprintf("**%s %s**", got, strings.Join(where, " and ")))
				}
			}
			if len(cells) > 0 && !b.theirs {
				b.Errorf("%s: %s, sent by %s: %s", b.name, name, attacker.name, cells)
			}
			found.note(name, b.name, cmp.Or(strings.Join(cells, ", "), "nothing"))
		}
	}
}
