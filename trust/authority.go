package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

const (
	// authorityLife is how long an authority's certificate is valid.
	authorityLife = 10 * 365 * 24 * time.Hour
	// HostLife is how long a host's certificate is valid; it is renewed after a third.
	HostLife = 30 * 24 * time.Hour
	// backdate allows for clocks that are a little apart.
	backdate = 10 * time.Minute
)

// The types of PEM blocks (RFC 7468).
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// Authority signs the hosts' certificates.
type Authority struct {
	Certificate *x509.Certificate
	key         crypto.Signer
}

// NewAuthority makes an authority with a key of its own. name is for people who
// look at its certificate.
func NewAuthority(name string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority's certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	return &Authority{Certificate: certificate, key: key}, err
}

// newSerial is random, as RFC 5280 §4.1.2.2 allows up to 20 bytes.
func newSerial() *big.Int {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes) // never fails
	return new(big.Int).SetBytes(bytes)
}

// ParseAuthority reads what [Authority.Certificate] and KeyPEM wrote.
func ParseAuthority(certificatePEM, keyPEM []byte) (*Authority, error) {
	certificates, err := ParseCertificates(certificatePEM)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	for _, certificate := range certificates {
		if public, ok := certificate.PublicKey.(*ecdsa.PublicKey); ok && public.Equal(key.Public()) {
			return &Authority{Certificate: certificate, key: key}, nil
		}
	}
	return nil, errors.New("authority: the key is not that of any of its certificates")
}

// CertificatePEM is what hosts are told to believe.
func (a *Authority) CertificatePEM() []byte { return encodePEM(pemCertificate, a.Certificate.Raw) }

// KeyPEM is the private key, with which hosts are signed.
func (a *Authority) KeyPEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encode the authority's key: %w", err)
	}
	return encodePEM(pemKey, der), nil
}

// Sign gives a certificate for the host of a request, with which it may serve
// at addrs and be a client, followed by the authority's own: clients that know
// only the authority's hash need it.
func (a *Authority) Sign(requestPEM []byte, host string, addrs []netip.Addr, now time.Time) ([]byte, error) {
	block, _ := pem.Decode(requestPEM)
	if block == nil {
		return nil, errors.New("the certificate request is not PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(), Subject: pkix.Name{CommonName: host},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(HostLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
	}
	for _, addr := range append(addrs, netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})) {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, request.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of host %s: %w", host, err)
	}
	return append(encodePEM(pemCertificate, der), a.CertificatePEM()...), nil
}

// RevocationList gives the list of certificates that are worth nothing any more,
// by serial number (RFC 5280 §5), as DER: etcd reads no other form. number must
// grow with each list.
func (a *Authority) RevocationList(number int64, serials []*big.Int, now time.Time) ([]byte, error) {
	template := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: now.Add(-backdate), NextUpdate: now.Add(authorityLife)}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: serial, RevocationTime: now,
		})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Certificate, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the list of revoked certificates: %w", err)
	}
	return der, nil
}

// NewRequest makes a key and the certificate request that goes with it.
func NewRequest(host string) (requestPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make this host's key: %w", err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode this host's key: %w", err)
	}
	return encodePEM("CERTIFICATE REQUEST", der), encodePEM(pemKey, secret), nil
}

// Pin is the hash by which a token names an authority: SHA-256 of its public key
// (as in RFC 7469 §2.4).
func Pin(certificate *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
}

// PinOf is a certificate's [Pin] as text.
func PinOf(certificate *x509.Certificate) string {
	pin := Pin(certificate)
	return hex.EncodeToString(pin[:])
}

// ParseCertificates reads all certificates of a PEM file.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	var certificates []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return certificates, nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the key cannot sign")
	}
	return signer, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func parseRevoked(der []byte) (map[string]bool, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	serials := make(map[string]bool)
	for _, entry := range list.RevokedCertificateEntries {
		serials[entry.SerialNumber.String()] = true
	}
	return serials, nil
}
