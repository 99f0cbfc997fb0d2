package fastpath

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// The verdicts of the programs. A test run's frame comes in, and goes out, on link 1.
const (
	goesOn   = -1 // TC_ACT_UNSPEC
	redirect = 7  // TC_ACT_REDIRECT
	link     = 1
)

var (
	own     = fabric.MAC{0x02, 1, 2, 3, 4, 5}
	gateway = fabric.MAC{0x02, 9, 9, 9, 9, 9}
	other   = fabric.MAC{0x02, 1, 2, 3, 4, 6}
)

// sent is a frame of a container's.
type sent struct {
	to, from fabric.MAC
	src, dst netip.AddrPort
	flags    byte
	ttl      byte
	protocol byte
	options  int // words of IPv4
	fragment uint16
	more     int // bytes of payload
}

func (s sent) frame() []byte {
	tcp := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.src.Port()), s.dst.Port())
	tcp = append(append(tcp, make([]byte, 8)...), 5<<4, s.flags, 0, 0, 0, 0, 0, 0)
	tcp = append(tcp, make([]byte, 20+s.more)...) // longer than IPv6's headers alone
	head := slices.Concat(s.to[:], s.from[:])
	if s.src.Addr().Is6() {
		ip := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(tcp)))
		return slices.Concat(head, []byte{0x86, 0xdd}, ip, []byte{s.protocol, s.ttl}, s.src.Addr().AsSlice(), s.dst.Addr().AsSlice(), tcp)
	}
	ip := binary.BigEndian.AppendUint16([]byte{byte(0x45 + s.options), 0}, uint16(20+4*s.options+len(tcp)))
	ip = binary.BigEndian.AppendUint16(append(ip, 0, 0), s.fragment)
	ip = slices.Concat(append(ip, s.ttl, s.protocol, 0, 0), s.src.Addr().AsSlice(), s.dst.Addr().AsSlice(), make([]byte, 4*s.options))
	return slices.Concat(head, []byte{8, 0}, ip, tcp)
}

func (s sent) back() sent {
	s.src, s.dst = s.dst, s.src
	return s
}

func with(s sent, change func(*sent)) sent {
	change(&s)
	return s
}

// firsts are of one connection each: of IPv4 and of IPv6.
func firsts() map[string]sent {
	all := make(map[string]sent)
	for name, ends := range map[string][2]string{"IPv4": {"10.1.0.2:40000", "10.1.0.70:80"}, "IPv6": {"[fd01::2]:40000", "[fd01::46]:80"}} {
		all[name] = sent{
			to: gateway, from: own, src: netip.MustParseAddrPort(ends[0]), dst: netip.MustParseAddrPort(ends[1]),
			flags: flagSYN, ttl: 64, protocol: unix.IPPROTO_TCP,
		}
	}
	return all
}

const (
	flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16
)

// rig are programs whose ways lead from a container on link 1 to other hosts by the same.
type rig struct {
	*programs
	t testing.TB
}

func newRig(t testing.TB) rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("BPF needs root")
	}
	ns, err := nl.NewNamespace()
	must(t, err)
	defer ns.Close()
	at, err := nl.Open(ns)
	must(t, err)
	defer at.Close()
	p, err := loadPrograms(at)
	must(t, err)
	t.Cleanup(p.Close)
	r := rig{p, t}
	for _, addr := range []string{"10.1.0.2/32", "fd01::2/128"} {
		r.way(addr, Way{Link: link, MTU: 1500, MAC: own, Gateway: gateway}, 1)
	}
	r.way("10.1.0.64/26", Way{Link: link, MTU: 1500, Via: netip.MustParseAddr("10.99.0.2")}, 1)
	r.way("fd01::40/122", Way{Link: link, MTU: 1500, Via: netip.MustParseAddr("fe80::2")}, 1)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r rig) way(to string, way Way, network uint32) {
	r.t.Helper()
	must(r.t, r.setWay(netip.MustParsePrefix(to), newWay(way, network)))
}

func (r rig) run(program string, s sent) (verdict int, out []byte) {
	r.t.Helper()
	options := &ebpf.RunOptions{Data: s.frame(), DataOut: make([]byte, 4096)}
	result, err := r.Programs[program].Run(options)
	must(r.t, err)
	return int(int32(result)), options.DataOut
}

// opens has the host let the first packets of the connection pass.
func (r rig) opens(first sent) {
	r.t.Helper()
	r.run(seen, first)
	r.run(seen, with(first.back(), func(s *sent) { s.flags = flagSYN | flagACK }))
}

// TestWhatIsLedPast is a packet of a connection that is open, and each thing that keeps
// another with the stack.
func TestWhatIsLedPast(t *testing.T) {
	for name, first := range firsts() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			data := with(first, func(s *sent) { s.flags = flagACK })
			if verdict, _ := r.run(fast, data); verdict != goesOn {
				t.Errorf("before it is open: %d", verdict)
			}
			r.opens(first)
			for _, flags := range []byte{flagACK, flagACK | flagFIN, flagRST} {
				if verdict, _ := r.run(fast, with(data, func(s *sent) { s.flags = flags })); verdict != redirect {
					t.Errorf("flags %x: %d", flags, verdict)
				}
			}
			foreign, four := netip.MustParseAddr("fd01::3"), first.src.Addr().Is4()
			if four {
				foreign = netip.MustParseAddr("10.1.0.3")
			}
			for what, change := range map[string]func(*sent){
				"SYN":                    func(s *sent) { s.flags = flagSYN },
				"another protocol":       func(s *sent) { s.protocol = unix.IPPROTO_UDP },
				"TTL at its end":         func(s *sent) { s.ttl = 1 },
				"another port":           func(s *sent) { s.src = netip.AddrPortFrom(s.src.Addr(), 40001) },
				"another's address":      func(s *sent) { s.src = netip.AddrPortFrom(foreign, s.src.Port()) },
				"another's MAC":          func(s *sent) { s.from = other },
				"not for the gateway":    func(s *sent) { s.to = other },
				"too large":              func(s *sent) { s.more = 1500 },
				"from who is on no link": func(s *sent) { *s = with(s.back(), func(s *sent) { s.to = other }) },
				"options":                func(s *sent) { s.options = 1 },
				"a fragment":             func(s *sent) { s.fragment = 1 },
				"the first fragment":     func(s *sent) { s.fragment = 1 << 13 },
			} {
				changed := with(data, change)
				if !four && (changed.options > 0 || changed.fragment > 0) {
					continue
				}
				if verdict, _ := r.run(fast, changed); verdict != goesOn {
					t.Errorf("%s: %d", what, verdict)
				}
			}
		})
	}
}

// TestOtherWays has a packet stay with the stack when what it came by, or goes to, is
// another network's or another link's.
func TestOtherWays(t *testing.T) {
	for name, change := range map[string]func(r rig){
		"another link": func(r rig) { r.way("10.1.0.2/32", Way{Link: 2, MTU: 1500, MAC: own, Gateway: gateway}, 1) },
		"another network": func(r rig) {
			r.way("10.1.0.64/26", Way{Link: link, MTU: 1500, Via: netip.MustParseAddr("10.99.0.2")}, 2)
		},
		"no way back": func(r rig) { must(r.t, r.deleteWay(netip.MustParsePrefix("10.1.0.2/32"))) },
		"no way":      func(r rig) { must(r.t, r.deleteWay(netip.MustParsePrefix("10.1.0.64/26"))) },
		"between other hosts": func(r rig) {
			r.way("10.1.0.2/32", Way{Link: link, MTU: 1500, Via: netip.MustParseAddr("10.99.0.3")}, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, first := newRig(t), firsts()["IPv4"]
			r.opens(first)
			change(r)
			for _, to := range []fabric.MAC{gateway, {}} { // {}: this host's own, on link 1
				if verdict, _ := r.run(fast, with(first, func(s *sent) { s.flags, s.to = flagACK, to })); verdict != goesOn {
					t.Errorf("for %s: %d", to, verdict)
				}
			}
		})
	}
}

// TestWhatOpens is nothing but a SYN and its answer that leave by their ways.
func TestWhatOpens(t *testing.T) {
	first := firsts()["IPv4"]
	answer := with(first.back(), func(s *sent) { s.flags = flagSYN | flagACK })
	for name, packets := range map[string][]sent{
		"nothing":              nil,
		"a SYN alone":          {first},
		"an answer alone":      {answer},
		"the answer first":     {answer, first},
		"no SYN":               {with(first, func(s *sent) { s.flags = flagACK }), answer},
		"another's answer":     {first, with(answer, func(s *sent) { s.src = netip.MustParseAddrPort("10.1.0.70:81") })},
		"the answer's own":     {first, first},
		"with other addresses": {with(first, func(s *sent) { s.dst = netip.MustParseAddrPort("10.2.0.70:80") }), answer},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			for _, packet := range packets {
				r.run(seen, packet)
			}
			for _, data := range []sent{first, with(first.back(), func(s *sent) { s.to, s.from = fabric.MAC{}, own })} {
				if verdict, _ := r.run(fast, with(data, func(s *sent) { s.flags = flagACK })); verdict != goesOn {
					t.Errorf("got %d", verdict)
				}
			}
		})
	}
}

// TestHeaders are right behind the way: the TTL is one less, and IPv4's sum fits.
func TestHeaders(t *testing.T) {
	for name, first := range firsts() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.opens(first)
			data := with(first, func(s *sent) { s.flags = flagACK })
			verdict, out := r.run(fast, data)
			want := with(data, func(s *sent) { s.ttl-- }).frame()
			if first.src.Addr().Is4() {
				// What the sum lacks of ours, which is zero, is what the TTL lost.
				binary.BigEndian.PutUint16(want[24:], 0x0100)
			}
			if verdict != redirect || !slices.Equal(out[:len(want)], want) {
				t.Errorf("verdict %d, got\n%x, want\n%x", verdict, out[:54], want[:54])
			}
		})
	}
}

// BenchmarkFast is what a packet that is led past costs.
func BenchmarkFast(b *testing.B) {
	for name, first := range firsts() {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			r.opens(first)
			frame := with(first, func(s *sent) { s.flags, s.ttl = flagACK, 255 }).frame()
			verdict, each, err := r.Programs[fast].Benchmark(frame, 200, b.ResetTimer)
			if err != nil || verdict != redirect {
				b.Fatalf("verdict %d: %v", int32(verdict), err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/packet")
		})
	}
}
