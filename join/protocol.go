package join

import (
	"context"
	"crypto/x509"
	"net/netip"
	"time"
)

// Protocol is the number of what hosts say to each other here. Hosts of another
// number do not join.
const Protocol = 1

const (
	joinPath      = "/v1/join"
	renewPath     = "/v1/renew"
	authorityPath = "/v1/authority"
)

// Applicant is a host that wants to join or to have its certificate renewed.
type Applicant struct {
	Protocol int `json:"protocol"`
	// Version is that of its causeway, for messages.
	Version string `json:"version"`
	// Host is its name in the records, Addrs the addresses that it may serve at.
	Host  string       `json:"host"`
	Addrs []netip.Addr `json:"addresses"`
	// Clock is its time.
	Clock time.Time `json:"clock"`
	// Request is its certificate request, as PEM.
	Request []byte `json:"request"`
	// Token and Secret are those that it joins with.
	Token  string `json:"token,omitempty"`
	Secret []byte `json:"secret,omitempty"`
}

// Admission is what a host is let in with.
type Admission struct {
	// Certificate is the host's, followed by the authority's, and Authorities are
	// those to believe, both as PEM. Revoked is the list of certificates not to
	// believe, as DER.
	Certificate []byte `json:"certificate"`
	Authorities []byte `json:"authorities"`
	Revoked     []byte `json:"revoked,omitempty"`
	// Members are the hosts that hold the store, as URLs for its clients.
	Members []string `json:"members"`
	// Store is the identity of the store.
	Store string `json:"store"`
}

// authorityAnswer hands the authority's key to a host that is to hold the store.
type authorityAnswer struct {
	Authorities []byte `json:"authorities"`
	Key         []byte `json:"key"`
}

// Token is the record of one that was printed.
type Token struct {
	// Hash is that of the secret.
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
	// By is the host that made it.
	By string `json:"by,omitempty"`
}

// Cluster is what the server has to know of the records. An error that is a
// sentence for the user of the new host is a [Refusal].
type Cluster interface {
	// Token gives the record of a token; ok is false where there is none.
	Token(ctx context.Context, id string) (token Token, ok bool, err error)
	// Admit says why a host may not come: its name is another's.
	Admit(ctx context.Context, applicant Applicant) error
	// Issued notes a certificate, so that it can be revoked, before its host gets it.
	// renews is the serial number of the one that the host has shown; empty where it
	// joins.
	Issued(ctx context.Context, host string, certificate *x509.Certificate, renews string) error
	// Members are the hosts that hold the store, as URLs for its clients.
	Members(ctx context.Context) ([]string, error)
	// Store is the identity of the store.
	Store(ctx context.Context) (string, error)
}
