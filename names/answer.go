package names

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl is how long a client may keep an answer, in seconds: a container that is
// removed is soon asked for in vain.
const ttl = 1

// answer gives the reply to a question about the cluster's names; nil where the
// question is Docker's to answer.
func (d *directory) answer(networks []string, request *dns.Msg) *dns.Msg {
	question := request.Question[0]
	if question.Qclass != dns.ClassINET {
		return nil
	}
	name := plain(question.Name)
	if question.Qtype == dns.TypePTR {
		return d.pointer(networks, request, name)
	}
	addrs, known := d.addresses(networks, name, wanted(question.Qtype))
	if !known {
		return nil
	}
	// Without an address of the family that is asked for, or for another type,
	// the answer is empty but no error: the name exists (NODATA, RFC 2308 §2.2).
	reply := replyTo(request)
	for _, addr := range addrs {
		reply.Answer = append(reply.Answer, addressRecord(question.Name, addr))
	}
	return reply
}

func wanted(qtype uint16) func(netip.Addr) bool {
	switch qtype {
	case dns.TypeA:
		return netip.Addr.Is4
	case dns.TypeAAAA:
		return netip.Addr.Is6
	case dns.TypeANY:
		return netip.Addr.IsValid
	}
	return func(netip.Addr) bool { return false }
}

func (d *directory) pointer(networks []string, request *dns.Msg, name string) *dns.Msg {
	addr, ok := parseReverse(name)
	if !ok {
		return nil
	}
	target, ok := d.reverse(networks, addr)
	if !ok {
		return nil
	}
	reply := replyTo(request)
	reply.Answer = []dns.RR{&dns.PTR{Hdr: header(request.Question[0].Name, dns.TypePTR), Ptr: dns.Fqdn(target)}}
	return reply
}

func replyTo(request *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(request)
	reply.RecursionAvailable = true
	if request.IsEdns0() != nil { // RFC 6891 §6.1.1
		reply.SetEdns0(maxUDP, false)
	}
	return reply
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

func addressRecord(name string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: addr.AsSlice()}
}

// parseReverse reads the name of a reverse look-up (RFC 1035 §3.5, RFC 3596 §2.5).
func parseReverse(name string) (netip.Addr, bool) {
	if text, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		labels := strings.Split(text, ".")
		if len(labels) != 4 {
			return netip.Addr{}, false
		}
		addr, err := netip.ParseAddr(labels[3] + "." + labels[2] + "." + labels[1] + "." + labels[0])
		return addr, err == nil
	}
	text, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(text, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range nibbles {
		if i > 0 && i%4 == 0 {
			b.WriteByte(':')
		}
		b.WriteString(nibbles[len(nibbles)-1-i])
	}
	addr, err := netip.ParseAddr(b.String())
	return addr, err == nil
}
