package kvstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// parseEndpoints gives config's endpoints as full URLs.
func parseEndpoints(config Config) ([]string, error) {
	if len(config.Endpoints) == 0 {
		return nil, errors.New("no endpoint of the store is given")
	}
	secure := config.CACert != "" || config.Cert != "" || config.TLS != nil
	endpoints := make([]string, 0, len(config.Endpoints))
	for _, text := range config.Endpoints {
		endpoint, err := parseURL(text, secure)
		if err != nil {
			return nil, err
		}
		if secure && endpoint.Scheme == "http" {
			return nil, fmt.Errorf("store %s would be used without TLS though certificate files are given: write https://", text)
		}
		endpoints = append(endpoints, endpoint.String())
	}
	scheme, _, _ := strings.Cut(endpoints[0], ":")
	for _, endpoint := range endpoints {
		if !strings.HasPrefix(endpoint, scheme+":") {
			return nil, fmt.Errorf("store endpoints mix http and https: %s", strings.Join(endpoints, ", "))
		}
	}
	return endpoints, nil
}

// parseURL reads a URL of etcd, or a bare host:port, and fills in scheme and port.
func parseURL(text string, secure bool) (*url.URL, error) {
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
		if secure {
			full = "https://" + text
		}
	}
	u, err := url.Parse(full)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%q is not the address of a store: it must read http[s]://host:port", text)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "2379")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
