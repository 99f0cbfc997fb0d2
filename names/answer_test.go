package names

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/causeway-net/causeway/fabric"
)

func sample() *directory {
	d := newDirectory()
	d.update(fabric.Network{ID: "foo-id", Name: "foo"}, map[string]fabric.Endpoint{
		"e1": endpoint("e1", "h1", []string{"10.0.0.2/24", "fd00::2/64"}, "web", "api", "0123456789ab"),
		"e2": endpoint("e2", "h2", []string{"10.0.0.3/24"}, "db", "api"),
	}, nil)
	d.update(fabric.Network{ID: "bar-id", Name: "bar"}, map[string]fabric.Endpoint{
		"e3": endpoint("e3", "h2", []string{"10.1.0.2/24"}, "db", "secret"),
	}, nil)
	return d
}

func TestAnswer(t *testing.T) {
	d := sample()
	for _, test := range []struct {
		networks, name string
		qtype          uint16
		want           string // sorted; "nodata", or "docker" where the question is not ours
	}{
		{"foo-id", "web", dns.TypeA, "10.0.0.2"},
		{"foo-id", "WEB", dns.TypeA, "10.0.0.2"},
		{"foo-id", "web", dns.TypeAAAA, "fd00::2"},
		{"foo-id", "0123456789ab", dns.TypeA, "10.0.0.2"},
		{"foo-id", "db", dns.TypeAAAA, "nodata"},
		{"foo-id", "db", dns.TypeMX, "nodata"},
		{"foo-id", "web", dns.TypeANY, "10.0.0.2 fd00::2"},
		{"foo-id", "api", dns.TypeA, "10.0.0.2 10.0.0.3"},
		{"foo-id", "db", dns.TypeA, "10.0.0.3"},
		{"foo-id", "db.foo", dns.TypeA, "10.0.0.3"},
		{"foo-id", "db.bar", dns.TypeA, "docker"},
		{"foo-id", "secret", dns.TypeA, "docker"},
		{"foo-id bar-id", "db", dns.TypeA, "10.0.0.3 10.1.0.2"},
		{"foo-id bar-id", "db.bar", dns.TypeA, "10.1.0.2"},
		{"foo-id", "example.com", dns.TypeA, "docker"},
		{"", "web", dns.TypeA, "docker"},
		{"foo-id", "2.0.0.10.in-addr.arpa", dns.TypePTR, "web.foo."},
		{"foo-id", "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", dns.TypePTR, "web.foo."},
		{"foo-id", "2.0.1.10.in-addr.arpa", dns.TypePTR, "docker"},
		{"foo-id", "nonsense.in-addr.arpa", dns.TypePTR, "docker"},
	} {
		request := new(dns.Msg).SetQuestion(dns.Fqdn(test.name), test.qtype)
		if got := brief(d.answer(strings.Fields(test.networks), request)); got != test.want {
			t.Errorf("%s %s on %q: %s, want %s", test.name, dns.TypeToString[test.qtype], test.networks, got, test.want)
		}
	}
	chaos := new(dns.Msg).SetQuestion("web.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	if got := brief(d.answer([]string{"foo-id"}, chaos)); got != "docker" {
		t.Errorf("class CH: %s", got)
	}
}

func brief(reply *dns.Msg) string {
	switch {
	case reply == nil:
		return "docker"
	case reply.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[reply.Rcode]
	case len(reply.Answer) == 0:
		return "nodata"
	}
	var texts []string
	for _, record := range reply.Answer {
		fields := strings.Fields(record.String())
		texts = append(texts, fields[len(fields)-1])
	}
	slices.Sort(texts)
	return strings.Join(texts, " ")
}

// Clients that take the first address shall not all meet at one container.
func TestAddressesComeInChangingOrder(t *testing.T) {
	d := sample()
	first := make(map[string]bool)
	for range 100 {
		reply := d.answer([]string{"foo-id"}, new(dns.Msg).SetQuestion("api.", dns.TypeA))
		first[reply.Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 2 {
		t.Errorf("the first address was always one of %v", first)
	}
}

func TestMergeIsAUnion(t *testing.T) {
	ours := sample().answer([]string{"foo-id"}, new(dns.Msg).SetQuestion("db.", dns.TypeA))
	dockers := new(dns.Msg)
	for _, text := range []string{"DB. 600 IN A 10.0.0.3", "db. 600 IN A 172.18.0.2", "db. 600 IN TXT x"} {
		record, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		dockers.Answer = append(dockers.Answer, record)
	}
	merge(ours, dockers)
	if got := brief(ours); got != "10.0.0.3 172.18.0.2" {
		t.Errorf("got %s", got)
	}
}

// Nothing that a container sends makes an answer that cannot be sent.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"web.", ".", "2.0.0.10.in-addr.arpa.", strings.Repeat("a.", 120)} {
		packed, err := new(dns.Msg).SetQuestion(name, dns.TypeANY).SetEdns0(512, true).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	d := sample()
	f.Fuzz(func(t *testing.T, data []byte) {
		request := new(dns.Msg)
		if request.Unpack(data) != nil || len(request.Question) != 1 {
			return // the server refuses it
		}
		reply := d.answer([]string{"foo-id", "bar-id"}, request)
		if reply == nil {
			return
		}
		reply.Truncate(dns.MinMsgSize)
		packed, err := reply.Pack()
		if err != nil || len(packed) > dns.MinMsgSize {
			t.Errorf("%d bytes, %v: %v", len(packed), err, reply)
		}
	})
}
