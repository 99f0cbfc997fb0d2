package kvstore

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA " + t.Name()},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, file, "CERTIFICATE", der)
	return authority{template, key, file}
}

// issue gives the files of a certificate for 127.0.0.1, and of its key.
func (a authority) issue(t *testing.T) (cert, key string) {
	t.Helper()
	secret := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "host"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, secret.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "PRIVATE KEY", private)
	return cert, key
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	serverCert, serverKey := ours.issue(t)
	server := startEmbedded(t, EmbeddedConfig{
		DataDir: t.TempDir(), Listen: "127.0.0.1:0", CACert: ours.file, Cert: serverCert, Key: serverKey,
	})
	if !strings.HasPrefix(server.Endpoint(), "https://127.0.0.1:") {
		t.Fatalf("endpoint is %s", server.Endpoint())
	}
	ourCert, ourKey := ours.issue(t)
	theirCert, theirKey := theirs.issue(t)
	for name, test := range map[string]struct {
		ca, cert, key string
		cause         string
	}{
		"right":                {ours.file, ourCert, ourKey, ""},
		"server of another CA": {theirs.file, ourCert, ourKey, "unavailable: certificate signed by unknown authority: it is another cluster's store, or the CA certificate here is not its own"},
		// TLS 1.3 refuses a client after the handshake; its alert may be lost.
		"client of another CA":     {ours.file, theirCert, theirKey, "unavailable: "},
		"client with no cert":      {ours.file, "", "", "unavailable: "},
		"no CA, so the system's":   {"", ourCert, ourKey, "certificate signed by unknown authority"},
		"certificate and bad key":  {ours.file, ourCert, theirKey, "does not match"},
		"CA that is not a PEM":     {os.Args[0], "", "", "holds no PEM certificate"},
		"key without certificate":  {ours.file, "", ourKey, "without its certificate"},
		"certificate without file": {ours.file, ourCert + "x", ourKey, "cert.pemx"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := Open(Config{Endpoints: []string{server.Endpoint()}, CACert: test.ca, Cert: test.cert, Key: test.key})
			if err == nil {
				defer closeStore(t, store)
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
				defer cancel()
				err = store.Health(ctx)
				if test.cause != "" && !errors.Is(err, ErrUnavailable) {
					t.Errorf("not ErrUnavailable: %v", err)
				}
			}
			if test.cause == "" && err != nil || test.cause != "" && (err == nil || !strings.Contains(err.Error(), test.cause)) {
				t.Errorf("got %v, want %q", err, test.cause)
			}
			t.Log(err)
		})
	}
}
