package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Client gives the TLS of this host as a client of other hosts. Its files are
// read at each handshake, so that what is renewed is in use at once.
func (d Dir) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return d.pair()
		},
		// The authorities may change while this is in use, which RootCAs cannot.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return d.verify(state, x509.ExtKeyUsageServerAuth)
		},
	}
}

// Server gives the TLS of this host as a server for other hosts. With clients,
// only those with a certificate of the cluster that is not revoked are let in;
// else, as for those that join, they may come without one.
func (d Dir) Server(clients bool) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return d.pair()
		},
		ClientAuth: tls.RequestClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			if len(state.PeerCertificates) == 0 && !clients {
				return nil
			}
			return d.verify(state, x509.ExtKeyUsageClientAuth)
		},
	}
	if clients {
		config.ClientAuth = tls.RequireAnyClientCert
	}
	return config
}

func (d Dir) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(d.HostFile(), d.HostFile())
	if err != nil {
		return nil, fmt.Errorf("this host's certificate: %w", err)
	}
	return &pair, nil
}

// verify checks a peer's certificate against the authorities and the list of
// revoked ones as they are now. All hosts of a cluster are trusted alike, so it
// does not matter which of them answers at an address.
func (d Dir) verify(state tls.ConnectionState, usage x509.ExtKeyUsage) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the peer shows no certificate")
	}
	bundle, err := d.CA()
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
		return err
	}
	revoked, err := d.Revoked()
	if err != nil {
		return err
	}
	if revoked[leaf.SerialNumber.String()] {
		return fmt.Errorf("the certificate of host %s is revoked", leaf.Subject.CommonName)
	}
	return nil
}

// Revoked reads the serial numbers of revoked certificates.
func (d Dir) Revoked() (map[string]bool, error) {
	text, err := os.ReadFile(d.CRLFile())
	if IsNotThere(err) {
		return nil, nil //nolint:nilnil // none is revoked
	}
	if err != nil {
		return nil, err
	}
	list, err := parseRevoked(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.CRLFile(), err)
	}
	return list, nil
}

// Pinned gives the TLS of a host that joins: it believes whoever has a
// certificate of the authority with that pin, which the server must send along.
func Pinned(pin [sha256.Size]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, certificate := range state.PeerCertificates {
				if Pin(certificate) != pin {
					continue
				}
				roots := x509.NewCertPool()
				roots.AddCert(certificate)
				leaf := state.PeerCertificates[0]
				// This host's clock may be off, which the other one tells it then.
				_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: leaf.NotBefore.Add(backdate)})
				return err
			}
			return ErrOtherCluster
		},
	}
}

// ErrOtherCluster says that who answers is not of the cluster that the token is for.
var ErrOtherCluster = errors.New("who answers there has a certificate of another cluster than the token's")
