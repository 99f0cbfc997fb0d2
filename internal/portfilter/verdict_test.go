package portfilter

import (
	"encoding/binary"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
)

// judge runs the program on frames, as the container that rule is for would send them.
func judge(t *testing.T, rule Rule) (passes func(frame []byte) bool) {
	t.Helper()
	program := programWith(t, rule)
	return func(frame []byte) bool {
		verdict, err := program.Run(&ebpf.RunOptions{Data: frame})
		if err != nil {
			t.Fatal(err)
		}
		return int32(verdict) == -1 // TC_ACT_UNSPEC
	}
}

func programWith(t testing.TB, rule Rule) *ebpf.Program {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("BPF needs root")
	}
	p, err := loadProgram()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	e, err := newEntry(rule)
	if err != nil {
		t.Fatal(err)
	}
	// A test run has the class 0, which no port has.
	if err := p.ports.Update(uint32(0), e, ebpf.UpdateAny); err != nil {
		t.Fatal(err)
	}
	return p.Programs[programName]
}

// BenchmarkProgram is what a frame that passes costs on its way, whatever its length.
func BenchmarkProgram(b *testing.B) {
	for name, sent := range map[string][]byte{
		"IPv4": frame(own.mac, unix.ETH_P_IP, packet4(own.addr4, 0, unix.IPPROTO_TCP, ports(1, 2))),
		"IPv6": frame(own.mac, unix.ETH_P_IPV6, packet6(own.addr6, unix.IPPROTO_TCP, ports(1, 2))),
	} {
		b.Run(name, func(b *testing.B) {
			program := programWith(b, ruleOf())
			b.ResetTimer()
			verdict, each, err := program.Benchmark(sent, b.N, b.ResetTimer)
			if err != nil || int32(verdict) != -1 {
				b.Fatalf("verdict %d: %v", int32(verdict), err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/frame")
		})
	}
}

type ends struct {
	mac   fabric.MAC
	addr4 netip.Addr
	addr6 netip.Addr
}

var (
	own      = ends{fabric.MAC{0x02, 1, 2, 3, 4, 5}, netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00::2")}
	stranger = ends{fabric.MAC{0x02, 1, 2, 3, 4, 6}, netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd00::3")}
	virtual  = ends{fabric.MAC{0, 0, 0x5e, 0, 1, 9}, netip.MustParseAddr("10.1.0.9"), netip.MustParseAddr("fd00::9")}
	link     = own.mac.LinkLocal()
)

func ruleOf(floats ...netip.Addr) Rule {
	return RuleOf(fabric.Network{Allow: floats}, fabric.Endpoint{ID: "e", MAC: own.mac, Addrs: []netip.Prefix{
		netip.PrefixFrom(own.addr4, 24), netip.PrefixFrom(own.addr6, 64),
	}})
}

func frame(from fabric.MAC, etherType uint16, payload ...[]byte) []byte {
	head := slices.Concat(stranger.mac[:], from[:], binary.BigEndian.AppendUint16(nil, etherType))
	return slices.Concat(head, slices.Concat(payload...), make([]byte, 64))
}

func packet4(from netip.Addr, options int, protocol byte, payload []byte) []byte {
	head := make([]byte, 20+4*options)
	head[0], head[9] = byte(0x45+options), protocol
	copy(head[12:], from.AsSlice())
	return append(head, payload...)
}

func packet6(from netip.Addr, next byte, payload []byte) []byte {
	head := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(payload)))
	return slices.Concat(head, []byte{next, 255}, from.AsSlice(), stranger.addr6.AsSlice(), payload)
}

// behind puts extension headers before payload, of 8 to 24 bytes each.
func behind(t *rapid.T, most int, next byte, payload []byte) (first byte, extended []byte) {
	for range rapid.IntRange(0, most).Draw(t, "headers") {
		units := rapid.IntRange(0, 2).Draw(t, "units")
		payload = append(append([]byte{next, byte(units)}, make([]byte, 6+8*units)...), payload...)
		next = rapid.SampledFrom([]byte{unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING}).Draw(t, "header")
	}
	return next, payload
}

func ports(from, to uint16) []byte {
	return append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to), 0, 8, 0, 0)
}

func discovery(kind byte, target netip.Addr, option byte, mac fabric.MAC) []byte {
	return slices.Concat([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), []byte{option, 1}, mac[:])
}

// TestOneForeignFieldIsEnough changes fields of frames that pass: each that says who sends
// makes it be dropped, whatever options and headers are before it.
func TestOneForeignFieldIsEnough(t *testing.T) {
	passes := judge(t, ruleOf())
	rapid.Check(t, func(t *rapid.T) {
		honest := rapid.Bool().Draw(t, "honest")
		fields := []ends{own, own, own, own}
		if !honest {
			fields[rapid.IntRange(0, 3).Draw(t, "field")] = rapid.SampledFrom([]ends{stranger, virtual}).Draw(t, "who")
		}
		mac, source, inside, target := fields[0].mac, fields[1], fields[2], fields[3]
		var sent []byte
		switch kind := rapid.SampledFrom([]string{"ipv4", "ipv6", "arp", "advertisement"}).Draw(t, "kind"); kind {
		case "ipv4":
			honest = mac == own.mac && source == own
			sent = frame(mac, unix.ETH_P_IP, packet4(source.addr4, rapid.IntRange(0, 10).Draw(t, "options"),
				rapid.SampledFrom([]byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, 112}).Draw(t, "protocol"), ports(1, 2)))
		case "ipv6":
			honest = mac == own.mac && source == own
			next, payload := behind(t, 6, rapid.SampledFrom([]byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP, 112}).Draw(t, "protocol"), ports(1, 2))
			sent = frame(mac, unix.ETH_P_IPV6, packet6(source.addr6, next, payload))
		case "arp":
			honest = mac == own.mac && source == own && inside == own
			operation := rapid.SampledFrom([]byte{1, 2}).Draw(t, "operation")
			sent = frame(mac, unix.ETH_P_ARP, []byte{0, 1, 8, 0, 6, 4, 0, operation}, inside.mac[:], source.addr4.AsSlice(), make([]byte, 10))
		case "advertisement":
			honest = mac == own.mac && source == own && inside == own && target == own
			next, payload := behind(t, 6, unix.IPPROTO_ICMPV6, discovery(136, target.addr6, 2, inside.mac))
			sent = frame(mac, unix.ETH_P_IPV6, packet6(source.addr6, next, payload))
		}
		if got := passes(sent); got != honest {
			t.Errorf("passes: %t, want %t: % x", got, honest, sent)
		}
	})
}

func TestVerdicts(t *testing.T) {
	plain, floating := judge(t, ruleOf()), judge(t, ruleOf(virtual.addr4, virtual.addr6))
	nobody6, nobody4 := netip.IPv6Unspecified(), netip.IPv4Unspecified()
	icmp6 := func(from netip.Addr, message []byte) []byte {
		return frame(own.mac, unix.ETH_P_IPV6, packet6(from, unix.IPPROTO_ICMPV6, message))
	}
	arp := func(operation byte, sender fabric.MAC, addr netip.Addr) []byte {
		return frame(own.mac, unix.ETH_P_ARP, []byte{0, 1, 8, 0, 6, 4, 0, operation}, sender[:], addr.AsSlice(), make([]byte, 10))
	}
	for name, test := range map[string]struct {
		frame           []byte
		plain, floating bool
	}{
		"a probe by ARP":                          {arp(1, own.mac, nobody4), true, true},
		"an answer from no address":               {arp(2, own.mac, nobody4), false, false},
		"a search for a duplicate":                {icmp6(nobody6, discovery(135, own.addr6, 14, own.mac)), true, true},
		"a search for another's duplicate":        {icmp6(nobody6, discovery(135, stranger.addr6, 14, own.mac)), false, false},
		"groups, before there is an address":      {frame(own.mac, unix.ETH_P_IPV6, packet6(nobody6, 0, []byte{58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0})), true, true},
		"an echo request from no address":         {icmp6(nobody6, []byte{128, 0, 0, 0, 0, 0, 0, 0}), false, false},
		"TCP from no address":                     {frame(own.mac, unix.ETH_P_IPV6, packet6(nobody6, unix.IPPROTO_TCP, ports(1, 2))), false, false},
		"link-local":                              {icmp6(link, []byte{128, 0, 0, 0, 0, 0, 0, 0}), true, true},
		"a router solicitation":                   {icmp6(link, slices.Concat([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1}, own.mac[:])), true, true},
		"a router solicitation, another's MAC":    {icmp6(link, slices.Concat([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1}, stranger.mac[:])), false, false},
		"a router advertisement":                  {icmp6(link, []byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}), false, false},
		"one behind seven headers":                {frame(own.mac, unix.ETH_P_IPV6, packet6(link, 60, append(slices.Repeat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, 6), 58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0, 64, 0, 7, 8))), false, false},
		"one in a first fragment":                 {frame(own.mac, unix.ETH_P_IPV6, packet6(link, 44, []byte{58, 0, 0, 1, 0, 0, 0, 1, 134, 0, 0, 0, 64, 0, 7, 8})), false, false},
		"a later fragment":                        {frame(own.mac, unix.ETH_P_IPV6, packet6(link, 44, []byte{58, 0, 1, 0, 0, 0, 0, 1, 134, 0, 0, 0, 64, 0, 7, 8})), true, true},
		"an option without a length":              {icmp6(link, slices.Concat([]byte{136, 0, 0, 0, 0, 0, 0, 0}, own.addr6.AsSlice(), make([]byte, 8))), false, false},
		"a DHCP answer":                           {frame(own.mac, unix.ETH_P_IP, packet4(own.addr4, 3, unix.IPPROTO_UDP, ports(67, 68))), false, false},
		"a DHCP question":                         {frame(own.mac, unix.ETH_P_IP, packet4(own.addr4, 0, unix.IPPROTO_UDP, ports(68, 67))), true, true},
		"what floats":                             {frame(own.mac, unix.ETH_P_IP, packet4(virtual.addr4, 0, unix.IPPROTO_TCP, ports(1, 2))), false, true},
		"what floats, from a virtual router":      {frame(virtual.mac, unix.ETH_P_IP, packet4(virtual.addr4, 0, unix.IPPROTO_TCP, ports(1, 2))), false, true},
		"what floats, by ARP":                     {arp(1, virtual.mac, virtual.addr4), false, true},
		"what floats, advertised":                 {icmp6(own.addr6, discovery(136, virtual.addr6, 2, virtual.mac)), false, true},
		"a virtual router's link-local address":   {icmp6(virtual.mac.LinkLocal(), []byte{128, 0, 0, 0, 0, 0, 0, 0}), false, true},
		"an address that does not float":          {frame(virtual.mac, unix.ETH_P_IP, packet4(stranger.addr4, 0, unix.IPPROTO_TCP, ports(1, 2))), false, false},
		"another protocol":                        {frame(own.mac, 0x88b5), false, false},
		"a frame of IEEE 802.3, as a BPDU is one": {frame(own.mac, 38, []byte{0x42, 0x42, 3}), false, false},
		"a VLAN in a VLAN":                        {frame(own.mac, unix.ETH_P_8021AD, []byte{0, 1, 0x81, 0, 0, 1}), false, false},
	} {
		if got := plain(test.frame); got != test.plain {
			t.Errorf("%s: passes: %t", name, got)
		}
		if got := floating(test.frame); got != test.floating {
			t.Errorf("%s, with an address that floats: passes: %t", name, got)
		}
	}
}

// TestNothingPassesFromAnotherMAC holds for any bytes.
func TestNothingPassesFromAnotherMAC(t *testing.T) {
	passes := judge(t, ruleOf())
	rapid.Check(t, func(t *rapid.T) {
		bytes := rapid.SliceOfN(rapid.Byte(), 60, 200).Draw(t, "frame")
		if passes(bytes) && fabric.MAC(bytes[6:12]) != own.mac {
			t.Errorf("% x passes", bytes)
		}
	})
}
