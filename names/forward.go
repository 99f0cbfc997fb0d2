package names

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

const (
	// forwardTimeout is longer than Docker's resolver takes for its upstreams.
	forwardTimeout = 15 * time.Second
	// unionTimeout is for names that the cluster knows: Docker answers its own
	// from memory, and others would only be sent on.
	unionTimeout = 50 * time.Millisecond
)

// docker asks Docker's resolver of one sandbox.
type docker struct {
	ns netns.NsHandle
	// slots bounds the questions that wait.
	slots chan struct{}
}

// ask sends request on as it came, over the same protocol.
func (d docker) ask(ctx context.Context, protocol string, request *dns.Msg) (*dns.Msg, error) {
	var conn net.Conn
	err := nl.Do(d.ns, func() (err error) {
		dialer := net.Dialer{Timeout: forwardTimeout, LocalAddr: local(protocol)}
		conn, err = dialer.DialContext(ctx, protocol+"4", netip.AddrPortFrom(dockerResolver(), dnsPort).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := dns.Client{Net: protocol, Timeout: forwardTimeout, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeWithConnContext(ctx, request, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	return reply, err
}

func local(protocol string) net.Addr {
	if protocol == "tcp" {
		return &net.TCPAddr{IP: ourSource().AsSlice()}
	}
	return &net.UDPAddr{IP: ourSource().AsSlice()}
}

// merge adds the addresses of Docker's answer that ours lacks.
func merge(ours, dockers *dns.Msg) {
	for _, record := range dockers.Answer {
		kind := record.Header().Rrtype
		same := func(have dns.RR) bool { return dns.IsDuplicate(have, renamed(record, have)) }
		if (kind == dns.TypeA || kind == dns.TypeAAAA) && !slices.ContainsFunc(ours.Answer, same) {
			record.Header().Ttl = ttl
			ours.Answer = append(ours.Answer, record)
		}
	}
}

// renamed gives record under the other's spelling of the name.
func renamed(record, other dns.RR) dns.RR {
	if !strings.EqualFold(record.Header().Name, other.Header().Name) {
		return record
	}
	twin := dns.Copy(record)
	twin.Header().Name = other.Header().Name
	return twin
}
