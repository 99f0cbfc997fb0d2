package names

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

var foo = fabric.Network{ID: "foo-id", Name: "foo"}

// here is an endpoint of this host.
func here(id string, number int) fabric.Endpoint {
	e := endpoint(id, "h1", []string{fmt.Sprintf("10.0.0.%d/24", number)}, id)
	e.MAC = fabric.DeriveMAC(foo.ID, e.Addrs[0].Addr())
	return e
}

func put(endpoints ...fabric.Endpoint) map[string]fabric.Endpoint {
	byID := make(map[string]fabric.Endpoint)
	for _, e := range endpoints {
		byID[e.ID] = e
	}
	return byID
}

var remoteDB = endpoint("e9", "h2", []string{"10.0.0.9/24", "fd00::9/64"}, "db", "api")

// served is a Server with one container of this host and one elsewhere.
func served(t testing.TB) (*Server, *box, func()) {
	t.Helper()
	dir := netnsDir(t)
	b := newBox(t, dir, "box1")
	s, stop := startServer(t, dir)
	s.Update(foo, put(here("web", 2), remoteDB), nil)
	s.Joined("web", b.path)
	within(t, 5*time.Second, "10.0.0.9", func() string { return b.ask("udp", "api") })
	return s, b, stop
}

func TestServer(t *testing.T) {
	s, b, stop := served(t)
	for _, protocol := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"api": "10.0.0.9", "API.foo": "10.0.0.9", "web": "10.0.0.2",
			"local": "172.18.0.2", "example.com": "NXDOMAIN",
		} {
			if got := b.ask(protocol, name); got != want {
				t.Errorf("%s over %s is %s, want %s", name, protocol, got, want)
			}
		}
	}
	b.mu.Lock()
	sources := slices.Compact(slices.Sorted(slices.Values(b.sources[len(b.sources)-4:])))
	b.mu.Unlock()
	if !slices.Equal(sources, []string{ourSource().String()}) {
		t.Errorf("Docker's resolver was asked by %v", sources)
	}

	s.Update(foo, nil, []string{"e9"})
	if got := b.ask("udp", "api"); got != "NXDOMAIN" {
		t.Errorf("a container that is gone is %s", got)
	}
	stop()
	if got := b.ask("udp", "web"); got != "NXDOMAIN" {
		t.Errorf("after the stop web is %s; Docker does not know it", got)
	}
}

// A causeway that is killed renews nothing: the kernel ends the redirection.
func TestRedirectionExpires(t *testing.T) {
	b := newBox(t, netnsDir(t), "box1")
	table, err := openTable(b.NS())
	must(t, err)
	must(t, table.install(1)) // nobody listens there
	must(t, table.renew())
	must(t, table.close())
	if got := b.ask("udp", "local"); !strings.Contains(got, "refused") {
		t.Errorf("while it holds local is %q", got)
	}
	within(t, expiry+time.Second, "172.18.0.2", func() string { return b.ask("udp", "local") })
}

func TestFoundAgainAfterARestart(t *testing.T) {
	dir := netnsDir(t)
	b, other := newBox(t, dir, "box1"), newBox(t, dir, "box2")
	web := here("web", 2)
	b.join(web)
	other.join(here("other", 3))
	for range 2 {
		s, stop := startServer(t, dir)
		s.Update(foo, put(web, remoteDB), nil) // and no Joined
		within(t, 5*time.Second, "10.0.0.9", func() string { return b.ask("udp", "api") })
		if got := other.ask("udp", "api"); got != "NXDOMAIN" {
			t.Errorf("a container that is not on the network is told %s", got)
		}
		stop()
	}
}

func TestFlushedTableIsRepaired(t *testing.T) {
	_, b, _ := served(t)
	conn, err := nftables.New(nftables.WithNetNSFd(int(b.NS())))
	must(t, err)
	for name, change := range map[string]func(*nftables.Table){
		"table deleted": func(table *nftables.Table) { conn.DelTable(table) },
		"rules flushed": func(table *nftables.Table) { conn.FlushTable(table) },
	} {
		change(&nftables.Table{Name: "causeway", Family: nftables.TableFamilyIPv4})
		must(t, conn.Flush())
		if got := b.ask("udp", "web"); got != "NXDOMAIN" {
			t.Errorf("%s: web is %s", name, got)
		}
		within(t, 20*time.Second, "10.0.0.2", func() string { return b.ask("udp", "web") })
	}
}

func open(s *Server) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(len(s.sandboxes))
}

// When the container is gone nothing of ours may keep its namespace alive.
func TestSandboxEndsWithItsNamespace(t *testing.T) {
	s, b, _ := served(t)
	must(t, nl.Unbind(b.path))
	within(t, 5*time.Second, "0", func() string { return open(s) })
}

// One listener serves all networks of a container; the last one that leaves ends it.
func TestNetworksComeAndGo(t *testing.T) {
	s, b, _ := served(t)
	bar := fabric.Network{ID: "bar-id", Name: "bar"}
	second := endpoint("web2", "h1", []string{"10.1.0.2/24"}, "web")
	s.Update(bar, put(second, endpoint("e8", "h2", []string{"10.1.0.8/24"}, "queue")), nil)
	s.Joined("web2", b.path)
	within(t, 5*time.Second, "10.1.0.8", func() string { return b.ask("udp", "queue") })
	if n := open(s); n != "1" {
		t.Errorf("%s sandboxes", n)
	}
	s.Update(foo, nil, []string{"web"})
	if got := b.ask("udp", "api"); got != "NXDOMAIN" {
		t.Errorf("of the network that it left, api is %s", got)
	}
	for range 3 { // disconnected and connected in quick succession
		s.Update(bar, nil, []string{"web2"})
		s.Update(bar, put(second), nil)
		s.Joined("web2", b.path)
		within(t, 5*time.Second, "10.1.0.8", func() string { return b.ask("udp", "queue") })
	}
	s.Forget(bar.ID)
	within(t, 5*time.Second, "NXDOMAIN", func() string { return b.ask("udp", "queue") })
}

// A name that a network of another driver has as well is answered with both.
func TestUnionWithDockersNames(t *testing.T) {
	s, b, _ := served(t)
	if got := b.ask("udp", "db"); got != "10.0.0.9" {
		t.Errorf("db is %s", got)
	}
	b.join(fabric.Endpoint{MAC: fabric.MAC{2, 0, 0, 0, 0, 7}, Addrs: []netip.Prefix{netip.MustParsePrefix("172.18.0.9/16")}})
	second := here("web2", 3)
	s.Update(foo, put(second), nil)
	s.Joined("web2", b.path) // it is looked at again
	within(t, 5*time.Second, "10.0.0.9 172.18.0.2", func() string { return b.ask("udp", "db") })
}

func TestBadQuestions(t *testing.T) {
	_, b, _ := served(t)
	for name, request := range map[string][]byte{
		"empty":       {},
		"short":       {1, 2, 3},
		"random":      []byte(strings.Repeat("\xff\x00garbage", 40)),
		"no question": {0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"cut off":     {0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, 'a'},
	} {
		conn := b.dial("udp")
		if _, err := conn.Conn.Write(request); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		conn.Close()
	}
	two := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	two.Question = append(two.Question, two.Question[0])
	if reply, err := b.exchange("udp", two); err != nil || reply.Rcode != dns.RcodeFormatError {
		t.Errorf("two questions: %v, %v", reply, err)
	}
	edns := new(dns.Msg).SetQuestion("web.", dns.TypeA).SetEdns0(4096, false)
	if reply, err := b.exchange("udp", edns); err != nil || brief(reply) != "10.0.0.2" || reply.IsEdns0() == nil {
		t.Errorf("EDNS: %v, %v", reply, err)
	}
	conn := b.dial("tcp")
	defer conn.Close()
	for range 3 { // on one connection
		must(t, conn.WriteMsg(new(dns.Msg).SetQuestion("web.", dns.TypeA)))
		if reply, err := conn.ReadMsg(); err != nil || brief(reply) != "10.0.0.2" {
			t.Fatalf("several questions over TCP: %v, %v", reply, err)
		}
	}
}

// An answer that is too long for UDP says so, and comes whole over TCP.
func TestLongAnswer(t *testing.T) {
	s, b, _ := served(t)
	many := make(map[string]fabric.Endpoint)
	for i := range 100 {
		id := fmt.Sprint("m", i)
		many[id] = endpoint(id, "h2", []string{fmt.Sprintf("10.0.1.%d/16", i)}, "many")
	}
	s.Update(foo, many, nil)
	question := new(dns.Msg).SetQuestion("many.", dns.TypeA)
	if reply, err := b.exchange("udp", question.Copy()); err != nil || !reply.Truncated {
		t.Errorf("over UDP: %v, %v", reply, err)
	}
	if reply, err := b.exchange("tcp", question.Copy()); err != nil || len(reply.Answer) != len(many) {
		t.Errorf("over TCP: %v, %v", reply, err)
	}
}

// A container that asks for the world while Docker's resolver hangs starves
// neither its own look-ups of the cluster's names nor other containers.
func TestFloodStarvesNobody(t *testing.T) {
	s, b, _ := served(t)
	other := newBox(t, s.EngineDir, "box2")
	s.Update(foo, put(here("web2", 3)), nil)
	s.Joined("web2", other.path)
	within(t, 5*time.Second, "10.0.0.9", func() string { return other.ask("udp", "api") })
	b.mu.Lock()
	b.stall = make(chan struct{})
	b.mu.Unlock()
	defer close(b.stall)
	packed, err := new(dns.Msg).SetQuestion("example.com.", dns.TypeA).Pack()
	must(t, err)
	conn := b.dial("udp")
	defer conn.Close()
	for range 10_000 {
		if _, err := conn.Conn.Write(packed); err != nil {
			must(t, net.ErrClosed)
		}
	}
	for _, asker := range []*box{b, other} {
		// A question may be lost with the flood's: clients ask again.
		within(t, 10*time.Second, "10.0.0.9", func() string { return asker.ask("udp", "api") })
	}
	if got := other.ask("udp", "local"); got != "172.18.0.2" {
		t.Errorf("another container's local is %s", got)
	}
}

func TestResolve(t *testing.T) {
	s, _, _ := served(t)
	web := here("web", 2)
	web.Name = "web"
	s.Update(foo, put(web), nil)
	for _, test := range []struct {
		name, from string
		matches    int
	}{{"db", "web", 1}, {"DB.foo.", "", 1}, {"10.0.0.9", "web", 1}, {"example.com", "web", 0}} {
		r, err := s.Resolve(test.name, test.from)
		if err != nil || len(r.Matches) != test.matches || r.Docker != (test.matches == 0) || !slices.Equal(r.Networks, []string{"foo"}) {
			t.Errorf("%s from %q: %+v, %v", test.name, test.from, r, err)
		}
	}
	if _, err := s.Resolve("db", "stranger"); err == nil {
		t.Error("a container that is not known was answered")
	}
}

func BenchmarkLookup(b *testing.B) {
	_, box, stop := served(b)
	run := func(b *testing.B, name string) {
		for b.Loop() {
			if got := box.ask("udp", name); got == "" {
				b.Fatal(got)
			}
		}
	}
	b.Run("remote", func(b *testing.B) { run(b, "api") })
	b.Run("dockers", func(b *testing.B) { run(b, "local") })
	stop()
	b.Run("dockers-without-causeway", func(b *testing.B) { run(b, "local") })
}
