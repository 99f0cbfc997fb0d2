package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Dir is the folder that holds what this host trusts and is known by. Keys are
// readable by root alone.
type Dir struct{ path string }

// NewDir names the folder; it is made when something is written.
func NewDir(path string) Dir { return Dir{path: path} }

// The files. etcd reads them itself, at each handshake all but CAFile.
func (d Dir) CAFile() string    { return filepath.Join(d.path, "ca.pem") }
func (d Dir) CAKeyFile() string { return filepath.Join(d.path, "ca.key") }
func (d Dir) CRLFile() string   { return filepath.Join(d.path, "revoked.crl") }

// HostFile has this host's certificate, its authority's and its key: one file,
// so that a crash leaves a pair that matches.
func (d Dir) HostFile() string { return filepath.Join(d.path, "host.pem") }

// HasCertificate says whether this host has joined a closed cluster.
func (d Dir) HasCertificate() bool {
	_, err := os.Stat(d.HostFile())
	return err == nil
}

// SaveCA replaces the authorities that this host believes: the one that signs
// first, and those that did before or will later.
func (d Dir) SaveCA(bundle []byte) error {
	if _, err := ParseCertificates(bundle); err != nil {
		return fmt.Errorf("authorities: %w", err)
	}
	return writeFile(d.CAFile(), bundle)
}

// SaveHost replaces this host's certificate and key.
func (d Dir) SaveHost(certificate, key []byte) error {
	if _, err := tls.X509KeyPair(certificate, key); err != nil {
		return fmt.Errorf("this host's certificate: %w", err)
	}
	return writeFile(d.HostFile(), slices.Concat(certificate, key))
}

// SaveAuthority keeps the authority's key: this host holds the store.
func (d Dir) SaveAuthority(a *Authority) error {
	key, err := a.KeyPEM()
	if err != nil {
		return err
	}
	return writeFile(d.CAKeyFile(), key)
}

// SaveRevoked replaces the list of revoked certificates.
func (d Dir) SaveRevoked(list []byte) error { return writeFile(d.CRLFile(), list) }

// Revoke replaces that list by one of these serial numbers. This host and its etcd
// alone read it, by the numbers: whoever signs it is not looked at.
func (d Dir) Revoke(serials []string, now time.Time) error {
	numbers := make([]*big.Int, 0, len(serials))
	for _, serial := range serials {
		number, ok := new(big.Int).SetString(serial, 10)
		if !ok {
			continue // no certificate can have it
		}
		numbers = append(numbers, number)
	}
	issuer, err := NewAuthority("revoked", now)
	if err != nil {
		return err
	}
	list, err := issuer.RevocationList(now.UnixNano(), numbers, now)
	if err != nil {
		return err
	}
	return d.SaveRevoked(list)
}

// Authority reads the authority whose key this host has; the error is
// [fs.ErrNotExist] where it has none.
func (d Dir) Authority() (*Authority, error) {
	key, err := os.ReadFile(d.CAKeyFile())
	if err != nil {
		return nil, err
	}
	bundle, err := os.ReadFile(d.CAFile())
	if err != nil {
		return nil, err
	}
	return ParseAuthority(bundle, key)
}

// SaveNext keeps an authority that is to replace the one that signs now, under its
// pin.
func (d Dir) SaveNext(a *Authority) error {
	key, err := a.KeyPEM()
	if err != nil {
		return err
	}
	return writeFile(d.nextFile(PinOf(a.Certificate)), slices.Concat(a.CertificatePEM(), key))
}

// Next reads it; the error is [fs.ErrNotExist] where there is none.
func (d Dir) Next(pin string) (*Authority, error) {
	text, err := os.ReadFile(d.nextFile(pin))
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", d.nextFile(pin))
	}
	return ParseAuthority(text, rest)
}

// DropNext deletes all such.
func (d Dir) DropNext() error {
	files, err := filepath.Glob(d.nextFile("*"))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

func (d Dir) nextFile(pin string) string { return filepath.Join(d.path, "next-"+pin+".pem") }

// CA reads the authorities that this host believes.
func (d Dir) CA() ([]byte, error) { return os.ReadFile(d.CAFile()) }

// Certificate reads this host's own.
func (d Dir) Certificate() (*x509.Certificate, error) {
	text, err := os.ReadFile(d.HostFile())
	if err != nil {
		return nil, err
	}
	certificates, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.HostFile(), err)
	}
	return certificates[0], nil
}

// InForce says whether a certificate is valid at that time.
func InForce(certificate *x509.Certificate, now time.Time) bool {
	return !now.Before(certificate.NotBefore) && !now.After(certificate.NotAfter)
}

// Due says whether this host's certificate should be renewed: a third of its
// life is over, or the authority that signs now is another, or it begins later only, as one
// that was signed while a clock was ahead.
func (d Dir) Due(now time.Time) (bool, error) {
	certificate, err := d.Certificate()
	if err != nil {
		return false, err
	}
	bundle, err := d.CA()
	if err != nil {
		return false, err
	}
	authorities, err := ParseCertificates(bundle)
	if err != nil {
		return false, err
	}
	third := certificate.NotAfter.Sub(certificate.NotBefore) / 3
	begun, aged := !now.Before(certificate.NotBefore), now.After(certificate.NotBefore.Add(third))
	return !begun || aged || certificate.CheckSignatureFrom(authorities[0]) != nil, nil
}

// writeFile replaces a file as a whole: a crash leaves the old one or the new.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if at := (*fs.PathError)(nil); errors.As(err, &at) {
		err = at.Err // path says more than the name of the new file
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(file.Name(), path)
}

// IsNotThere says of an error of Dir that there is no such file yet.
func IsNotThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
