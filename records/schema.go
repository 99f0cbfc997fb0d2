// Package records is the cluster's records: their schema and every transaction
// on them.
//
// A request becomes one call here (create a network, put an endpoint, claim an
// address, release a host, …). The call reads what it relies on, guards it, commits
// one transaction through [kvstore.Store], and does so again after a conflict. To
// check that no address is given out twice, this package is all there is to read.
// Nothing here touches the kernel or the engine.
//
// Each object has its file: network.go, attachment.go and member.go (which host has
// a network), endpoint.go, name.go (what only the engine knows), pool*.go,
// address*.go, host.go. What two of them write together is one transaction: a
// network with its pools, an endpoint with its addresses, an attachment with its
// host's member.
package records

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// The prefixes of the records, each ending in "/" so that no sibling matches.
const (
	HostsPrefix       = "hosts/"
	AlivePrefix       = "alive/"
	NetworksPrefix    = "networks/"
	NamesPrefix       = "names/"
	VNIsPrefix        = "vnis/"
	AttachmentsPrefix = "attachments/"
	EndpointsPrefix   = "endpoints/"
	PoolsPrefix       = "pools/"
	AddressesPrefix   = "addresses/"
	BlocksPrefix      = "blocks/"
	UsersPrefix       = "users/"
	MembersPrefix     = "members/"
	// Those of a closed cluster: who may join, who has joined, who may not any more.
	TokensPrefix       = "tokens/"
	QuorumPrefix       = "quorum/"
	CertificatesPrefix = "certificates/"
	RevokedPrefix      = "revoked/"
	AuthorityPrefix    = "authority/"
	// A question to the doctors of all hosts, and their answers.
	DoctorAsksPrefix    = "doctor-asks/"
	DoctorAnswersPrefix = "doctor-answers/"
	// A question to one host, what it sees of a probe, and its answer.
	TraceAsksPrefix    = "trace-asks/"
	TraceAnswersPrefix = "trace-answers/"
	// That a host replaces its key of encrypted networks.
	KeyAsksPrefix = "key-asks/"
)

// Keys of single records and of the parts of a prefix.
func HostKey(host string) string      { return HostsPrefix + host }
func AliveKey(host string) string     { return AlivePrefix + host }
func NetworkKey(net string) string    { return NetworksPrefix + net }
func NameKey(name string) string      { return NamesPrefix + name }
func VNIKey(vni uint32) string        { return fmt.Sprintf("%s%d", VNIsPrefix, vni) }
func HostAttachments(h string) string { return AttachmentsPrefix + h + "/" }
func AttachmentKey(host, dockerID string) string {
	return HostAttachments(host) + dockerID
}
func NetworkMembers(net string) string        { return MembersPrefix + net + "/" }
func MemberKey(net, host string) string       { return NetworkMembers(net) + host }
func NetworkEndpoints(net string) string      { return EndpointsPrefix + net + "/" }
func EndpointKey(net, endpoint string) string { return NetworkEndpoints(net) + endpoint }
func TokenKey(id string) string               { return TokensPrefix + id }
func CertificatesKey(host string) string      { return CertificatesPrefix + host }
func DoctorAnswers(ask string) string         { return DoctorAnswersPrefix + ask + "/" }
func TraceAsks(host string) string            { return TraceAsksPrefix + host + "/" }
func TraceAnswers(ask string) string          { return TraceAnswersPrefix + ask + "/" }
func KeyAsks(host string) string              { return KeyAsksPrefix + host + "/" }
func RevokedKey(serial string) string         { return RevokedPrefix + serial }
func PoolKey(pool string) string              { return PoolsPrefix + pool }
func PoolUsers(pool string) string            { return UsersPrefix + pool + "/" }
func UserKey(pool, host string) string        { return PoolUsers(pool) + host }
func PoolAddresses(pool string) string        { return AddressesPrefix + pool + "/" }
func AddressKey(pool string, ip netip.Addr) string {
	return PoolAddresses(pool) + ip.String()
}

// Attachment says which cluster network a Docker network of one host is: Docker
// does not repeat CreateNetwork after a restart.
type Attachment struct {
	Network string `json:"network"`
	// DockerIPAM says that this engine takes the network's addresses from Docker's
	// own allocator, so that CreateEndpoint has to claim them.
	DockerIPAM bool `json:"own_ipam,omitempty"`
	// Force says that the user of this very engine gave -o force=true; the
	// network's record does not have it, nor what a mirror made.
	Force bool `json:"force,omitempty"`
	// Pending says that the mirror is making the network in this engine: a
	// delete before it is there is the engine's, which could not finish.
	Pending bool `json:"pending,omitempty"`
}

// Alive is held on a lease while a host's causeway runs.
type Alive struct {
	Since time.Time `json:"since"`
}

// Pool is one CIDR that addresses are claimed in. Its key is PoolID.
type Pool struct {
	// Space keeps pools apart: CIDRs of one space do not overlap.
	Space  string       `json:"space"`
	Prefix netip.Prefix `json:"prefix"`
	// Network is the cluster network that the pool belongs to; empty until
	// CreateNetwork, and always for networks of other drivers.
	Network string `json:"network,omitempty"`
	// DockerIPAM says that an engine's own allocator, which hands out the lowest
	// free address, shares this pool: causeway then picks from the top down.
	DockerIPAM bool `json:"docker_ipam,omitempty"`
	// BlockBits is the length of the blocks of a pool that is given out by blocks
	// alone, whatever its size: the network is routed by block. 0: the pool is given
	// out by blocks of 64 addresses where it has more than 256.
	BlockBits int `json:"block_bits,omitempty"`
	// Users has anyHost for the hosts that have a [Use], and those whose older version
	// keeps them here, once for each use. Global are those of them that requested it
	// in the global address space.
	Users  []string `json:"users,omitempty"`
	Global []string `json:"global,omitempty"`
	// Instead is the ID of the pool that the network's creating engine asked for
	// and knows this one by: that pool was bound to another host's network first.
	Instead string `json:"instead,omitempty"`
	// Requested is when the host requested the pool that did so by creating the network.
	Requested map[string]time.Time `json:"requested,omitempty"`
}

// PoolID gives the key of the pool of prefix in space: one path element.
func PoolID(space string, prefix netip.Prefix) string {
	return space + "-" + strings.ReplaceAll(prefix.Masked().String(), "/", "-")
}

// parsePoolID reads what PoolID gives; no space has a dash.
func parsePoolID(id string) (space string, prefix netip.Prefix, err error) {
	space, rest, _ := strings.Cut(id, "-")
	prefix, err = netip.ParsePrefix(strings.Replace(rest, "-", "/", 1))
	return space, prefix, err
}

// AddressKind says what an address is claimed for.
type AddressKind string

// The kinds of address.
const (
	KindGateway  AddressKind = "gateway"
	KindEndpoint AddressKind = "endpoint"
	KindAux      AddressKind = "aux"
	// KindFree marks a freed address in quarantine: others are given out before it.
	KindFree AddressKind = "free"
	// KindUnreadable stands for a record that cannot be decoded; it is never written.
	KindUnreadable AddressKind = "unreadable"
	// KindForeign marks an address that answered on the wire though no record has it.
	KindForeign AddressKind = "foreign"
)

// Address is one claimed address.
type Address struct {
	Kind AddressKind `json:"kind"`
	// Host made the claim, and frees it.
	Host string `json:"host,omitempty"`
	// Endpoint is the ID of the endpoint that has it; empty between
	// RequestAddress and CreateEndpoint.
	Endpoint string `json:"endpoint,omitempty"`
	// Name is the container's, where known.
	Name string `json:"name,omitempty"`
	// Freed is when a KindFree address was; zero is long ago.
	Freed time.Time `json:"freed,omitzero"`
}

// Freed is the record of an address that is quarantined from now on.
func Freed(now time.Time) Address { return Address{Kind: KindFree, Freed: now.UTC()} }
