package names

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	// expiry is how long the redirection holds without a renewal.
	expiry = 4 * time.Second
	// renewal is how often it is renewed.
	renewal = 1500 * time.Millisecond
	// priority is one step before Docker's chain (-100, NF_IP_PRI_NAT_DST).
	priority = -110

	dnsPort = 53
)

// dockerResolver is the address that Docker writes into /etc/resolv.conf.
func dockerResolver() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// ourSource is what we ask Docker's resolver from: the table lets it pass.
func ourSource() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 12}) }

// table is our table in one sandbox:
//
//	table ip causeway {
//	  set up { type ipv4_addr; flags timeout; timeout 4s; elements = { 127.0.0.11 } }
//	  chain output { type nat hook output priority -110;
//	    ip saddr != 127.0.0.12 ip daddr @up udp dport 53 dnat to 127.0.0.11:PORT
//	    ip saddr != 127.0.0.12 ip daddr @up tcp dport 53 dnat to 127.0.0.11:PORT
//	  }
//	}
type table struct {
	conn *nftables.Conn
	set  *nftables.Set
}

func openTable(ns netns.NsHandle) (*table, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns)), nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nf_tables: %w", err)
	}
	return &table{conn: conn, set: &nftables.Set{
		Table: &nftables.Table{Name: "causeway", Family: nftables.TableFamilyIPv4},
		ID:    1, Name: "up", KeyType: nftables.TypeIPAddr, HasTimeout: true, Timeout: expiry,
	}}, nil
}

// install replaces the table, whatever is there, in one transaction.
func (t *table) install(port uint16) error {
	t.conn.AddTable(t.set.Table) // so that the deletion finds one
	t.conn.DelTable(t.set.Table)
	t.conn.AddTable(t.set.Table)
	if err := t.conn.AddSet(t.set, t.up()); err != nil {
		return fmt.Errorf("write the redirection of 127.0.0.11: %w", err)
	}
	chain := t.conn.AddChain(&nftables.Chain{
		Name: "output", Table: t.set.Table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(priority),
	})
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		t.conn.AddRule(&nftables.Rule{Table: t.set.Table, Chain: chain, Exprs: t.redirect(protocol, port)})
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("write the redirection of 127.0.0.11: %w", err)
	}
	return nil
}

func (t *table) redirect(protocol byte, port uint16) []expr.Any {
	const ipSource, ipDestination, transportDestination = 12, 16, 2 // offsets in the headers, RFC 791, 768, 9293
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ipSource, Len: 4},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ourSource().AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: ipDestination, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: t.set.Name, SetID: t.set.ID},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: transportDestination, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(dnsPort)},
		&expr.Immediate{Register: 1, Data: dockerResolver().AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	}
}

func (t *table) up() []nftables.SetElement {
	return []nftables.SetElement{{Key: dockerResolver().AsSlice(), Timeout: expiry}}
}

// renew starts the expiry afresh. Kernels before 6.12 take no new expiry for an
// element that is there: it is replaced in one transaction.
func (t *table) renew() error {
	err := errors.Join(
		t.conn.SetAddElements(t.set, t.up()), // so that the deletion finds one
		t.conn.SetDeleteElements(t.set, t.up()),
		t.conn.SetAddElements(t.set, t.up()),
		t.conn.Flush(),
	)
	if err != nil {
		return fmt.Errorf("renew the redirection of 127.0.0.11: %w", err)
	}
	return nil
}

// intact says whether both rules are there.
func (t *table) intact() bool {
	rules, err := t.conn.GetRules(t.set.Table, &nftables.Chain{Name: "output"})
	return err == nil && len(rules) == 2
}

// release ends the redirection at once.
func (t *table) release() error {
	t.conn.AddTable(t.set.Table) // so that the deletion finds one
	t.conn.DelTable(t.set.Table)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("end the redirection of 127.0.0.11: %w", err)
	}
	return nil
}

func (t *table) close() error { return t.conn.CloseLasting() }
