// Package trusttest gives tests hosts with a certificate of one authority.
package trusttest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/loopback"
	"github.com/causeway-net/causeway/trust"
)

// NewAuthority makes an authority of a cluster for tests.
func NewAuthority(t testing.TB) *trust.Authority {
	t.Helper()
	authority, err := trust.NewAuthority("causeway test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// Host gives a folder with what host name has in the authority's cluster: its key and
// certificate, the authority's, and an empty list of revoked ones.
func Host(t testing.TB, authority *trust.Authority, name string) trust.Dir {
	t.Helper()
	dir := trust.NewDir(t.TempDir())
	request, key, err := trust.NewRequest(name)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Sign(request, name, []netip.Addr{loopback.Next().Addr()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	revoked, err := authority.RevocationList(1, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(dir.SaveCA(authority.CertificatePEM()), dir.SaveHost(certificate, key), dir.SaveRevoked(revoked))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
