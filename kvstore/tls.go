package kvstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// clientTLS reads the files, so that a bad one is an error at once; nil without any.
func clientTLS(caCert, cert, key string) (*tls.Config, error) {
	if err := checkPair(cert, key); err != nil {
		return nil, err
	}
	if caCert == "" && cert == "" {
		return nil, nil //nolint:nilnil // no TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caCert != "" {
		pool, err := readCA(caCert)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if cert != "" {
		// Read for each connection: certificates are renewed in place.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return readPair(cert, key)
		}
	}
	return config, nil
}

// checkPair says what is wrong with the files of a certificate and its key; both may be empty.
func checkPair(cert, key string) error {
	switch {
	case cert == "" && key == "":
		return nil
	case cert == "":
		return fmt.Errorf("key %s is given without its certificate", key)
	case key == "":
		return fmt.Errorf("certificate %s is given without its key", cert)
	}
	_, err := readPair(cert, key)
	return err
}

func readPair(cert, key string) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	var missing *os.PathError
	if errors.As(err, &missing) {
		return nil, fmt.Errorf("TLS certificate or key: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
	}
	return &pair, nil
}

func readCA(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("CA certificate %s holds no PEM certificate", file)
	}
	return pool, nil
}
