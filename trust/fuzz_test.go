package trust

import (
	"math/big"
	"testing"
	"time"
)

// Whatever a file or a host that joins brings for a certificate, a key, a request or a
// list of revoked ones is an error or usable.
func FuzzMaterial(f *testing.F) {
	authority, err := NewAuthority("causeway test", time.Now())
	if err != nil {
		f.Fatal(err)
	}
	request, key, err := NewRequest("h2")
	if err != nil {
		f.Fatal(err)
	}
	revoked, err := authority.RevocationList(1, []*big.Int{big.NewInt(7)}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(authority.CertificatePEM(), key)
	f.Add(request, request)
	f.Add(revoked, []byte("-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if certificates, err := ParseCertificates(a); err == nil && len(certificates) == 0 {
			t.Error("no certificate, and no error")
		}
		if parsed, err := ParseAuthority(a, b); err == nil && parsed.Certificate == nil {
			t.Error("an authority without a certificate was taken")
		}
		if _, err := parseRevoked(a); err != nil {
			_, _ = parseKey(a)
		}
		if signed, err := authority.Sign(a, "h2", nil, time.Now()); err == nil {
			if _, err := ParseCertificates(signed); err != nil {
				t.Errorf("what was signed is no certificate: %v", err)
			}
		}
	})
}
