package names

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/nl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// box is a network namespace with what Docker puts into a container's: a
// resolver at 127.0.0.11 behind a nat chain on OUTPUT at priority -100.
type box struct {
	t    testing.TB
	path string
	*nl.Handle

	mu      sync.Mutex
	sources []string // who asked Docker's resolver
	// stall keeps Docker's resolver from answering while it is not nil.
	stall chan struct{}
}

func newBox(t testing.TB, dir, name string) *box {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := nl.NewNamespace()
	must(t, err)
	defer ns.Close()
	b := &box{t: t, path: filepath.Join(dir, name)}
	b.Handle, err = nl.Open(ns)
	must(t, err)
	must(t, nl.Bind(b.NS(), b.path))
	t.Cleanup(func() {
		must(t, nl.Unbind(b.path))
		b.Close()
	})
	lo, err := b.Link("lo")
	must(t, err)
	must(t, b.LinkSetUp(lo))
	b.serveDocker()
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// netnsDir is a folder for the names of namespaces; naming one makes it a mount.
func netnsDir(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "netns")
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// join gives the box a link with an endpoint's MAC and address.
func (b *box) join(e fabric.Endpoint) {
	b.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(b.t, b.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}))
	link, err := b.Link("eth0")
	must(b.t, err)
	must(b.t, b.LinkSetHardwareAddr(link, e.MAC.HardwareAddr()))
	address, err := netlink.ParseAddr(e.Addrs[0].String())
	must(b.t, err)
	must(b.t, b.AddrAdd(link, address))
}

// serveDocker answers "local." with 172.18.0.2, as Docker does its own
// containers' names, and all else with NXDOMAIN.
func (b *box) serveDocker() {
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
		host, _, _ := net.SplitHostPort(w.RemoteAddr().String())
		b.mu.Lock()
		b.sources = append(b.sources, host)
		stall := b.stall
		b.mu.Unlock()
		if stall != nil {
			<-stall
		}
		reply := new(dns.Msg).SetReply(request)
		if name := strings.ToLower(request.Question[0].Name); name == "local." || name == "db." && request.Question[0].Qtype == dns.TypeA {
			record, _ := dns.NewRR("local. 600 IN A 172.18.0.2")
			record.Header().Name = request.Question[0].Name
			reply.Answer = []dns.RR{record}
		} else {
			reply.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(reply)
	})
	const at = 5399
	var packets net.PacketConn
	var streams net.Listener
	must(b.t, nl.Do(b.NS(), func() (err error) {
		address := netip.AddrPortFrom(dockerResolver(), at).String()
		if packets, err = new(net.ListenConfig).ListenPacket(b.t.Context(), "udp4", address); err != nil {
			return err
		}
		streams, err = new(net.ListenConfig).Listen(b.t.Context(), "tcp4", address)
		return err
	}))
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: streams, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		go func() { _ = server.ActivateAndServe(); close(done) }()
		<-started
		b.t.Cleanup(func() { _ = server.Shutdown(); <-done })
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(b.NS())))
	must(b.t, err)
	table := conn.AddTable(&nftables.Table{Name: "docker", Family: nftables.TableFamilyIPv4})
	chain := conn.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: dockerResolver().AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(dnsPort)},
			&expr.Immediate{Register: 1, Data: dockerResolver().AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(at)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}})
	}
	must(b.t, conn.Flush())
}

// dial opens a connection to 127.0.0.11:53 as a program in the container does.
func (b *box) dial(protocol string) *dns.Conn {
	b.t.Helper()
	var conn net.Conn
	must(b.t, nl.Do(b.NS(), func() (err error) {
		conn, err = new(net.Dialer).DialContext(context.Background(), protocol+"4", netip.AddrPortFrom(dockerResolver(), dnsPort).String())
		return err
	}))
	return &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
}

// exchange asks one question on a connection of its own.
func (b *box) exchange(protocol string, request *dns.Msg) (*dns.Msg, error) {
	conn := b.dial(protocol)
	defer conn.Close()
	client := dns.Client{Net: protocol, Timeout: 3 * time.Second}
	reply, _, err := client.ExchangeWithConn(request, conn)
	return reply, err
}

// ask gives the brief answer to an A question, or the error.
func (b *box) ask(protocol, name string) string {
	reply, err := b.exchange(protocol, new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA))
	if err != nil {
		return err.Error()
	}
	return brief(reply)
}

// within waits until got gives want, for at most limit.
func within(t testing.TB, limit time.Duration, want string, got func() string) {
	t.Helper()
	var last string
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-tick.C {
		if last = got(); last == want {
			return
		}
	}
	t.Fatalf("after %v it is %q, want %q", limit, last, want)
}

// startServer runs a Server until the test or stop ends it.
func startServer(t testing.TB, dir string) (s *Server, stop func()) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	entry := logrus.NewEntry(log)
	s = New(Config{
		Host: "h1", EngineDir: dir, Board: health.New(entry), Log: entry,
		Path: func(path string) string { return path },
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		must(t, <-done)
	})
	t.Cleanup(stop)
	return s, stop
}
