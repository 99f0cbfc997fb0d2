package hostfilter

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// firstRegister is the first of nf_tables' registers of 32 bits (NFT_REG32_00).
const firstRegister = 8

// ifKind is NFT_META_IIFKIND of linux/netfilter/nf_tables.h (kernel 5.6): the type of link
// that a packet came in on, as ip(8) names it.
const ifKind expr.MetaKey = 26

// family is an address family: how it is known, and where its header has what.
type family struct {
	number                       byte
	sourceAt, destinationAt, len uint32 // RFC 791 §3.1, RFC 8200 §3
	senders, hosts               string
}

func families() []family {
	return []family{
		{unix.NFPROTO_IPV4, 12, 16, 4, senders4Set, hosts4Set},
		{unix.NFPROTO_IPV6, 8, 24, 16, senders6Set, hosts6Set},
	}
}

func (f family) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.number}},
	}
}

func (f family) source(register uint32) []expr.Any      { return f.header(register, f.sourceAt) }
func (f family) destination(register uint32) []expr.Any { return f.header(register, f.destinationAt) }

func (f family) header(register, offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.len}}
}

// vni loads the VNI of a VXLAN header behind UDP's (RFC 7348 §5), without the reserved
// byte before it.
func vni(register uint32) []expr.Any {
	const udp, before, length = 8, 3, 4
	return []expr.Any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: udp + before, Len: length},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: length, Mask: []byte{0, 0xff, 0xff, 0xff}, Xor: make([]byte, length)},
		&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderNtoh, Len: length, Size: length},
	}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

// loadPort loads the destination port of UDP and TCP.
func loadPort() *expr.Payload {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
}

func destinationPort(port uint16) []expr.Any {
	return []expr.Any{loadPort(), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)}}
}

func destinationPortIn(set *nftables.Set) []expr.Any {
	return append([]expr.Any{loadPort()}, in(set, 1)...)
}

func fromBridge() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: ifKind, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifname("bridge")},
	}
}

// fromGateway says that a packet came in on the interface of a network's own gateway,
// whose name begins with cwg.
func fromGateway() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte("cwg")},
	}
}

// notBy says that a packet's device is no WireGuard device of ours (cw-wg*).
func notBy(device expr.MetaKey) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: device, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("cw-wg")},
	}
}

// notIn says that the link which a packet came in on is not in set.
func notIn(set *nftables.Set) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true},
	}
}

func in(set *nftables.Set, register uint32) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID}}
}

func jump(chain *nftables.Chain) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: chain.Name}}
}

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// dropAs drops and counts.
func dropAs(counter string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counter}, &expr.Verdict{Kind: expr.VerdictDrop}}
}
