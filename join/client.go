package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/causeway-net/causeway/trust"
)

// Client is a host that joins or is in the cluster.
type Client struct {
	Dir     trust.Dir
	Host    string
	Addrs   []netip.Addr
	Version string
	// Accept may refuse what this host was admitted with, before any of it is kept;
	// it may be nil.
	Accept func(Admission) error
	// Now is the clock; nil means this host's.
	Now func() time.Time
}

// Join asks the token's addresses in turn until one admits this host, and keeps
// the certificate and the authorities. Killed on the way, it is done again.
func (c *Client) Join(ctx context.Context, token trust.Token) (Admission, error) {
	applicant, key, err := c.applicant()
	if err != nil {
		return Admission{}, err
	}
	applicant.Token, applicant.Secret = token.ID, token.Secret[:]
	admission, err := askEach[Admission](ctx, trust.Pinned(token.Pin), token.Addrs, joinPath, applicant)
	if err != nil {
		return admission, fmt.Errorf("join the cluster: %w", err)
	}
	return admission, c.keep(admission, key)
}

// Renew has this host's certificate replaced by one of the hosts at addrs.
func (c *Client) Renew(ctx context.Context, addrs []netip.AddrPort) (Admission, error) {
	applicant, key, err := c.applicant()
	if err != nil {
		return Admission{}, err
	}
	admission, err := askEach[Admission](ctx, c.Dir.Client(), addrs, renewPath, applicant)
	if err != nil {
		return admission, fmt.Errorf("renew this host's certificate: %w", err)
	}
	return admission, c.keep(admission, key)
}

// TakeAuthority keeps the authority's key of one of the hosts at addrs: this host
// is to hold the store, and admits others then.
func (c *Client) TakeAuthority(ctx context.Context, addrs []netip.AddrPort) error {
	got, err := askEach[authorityAnswer](ctx, c.Dir.Client(), addrs, authorityPath, struct{}{})
	if err != nil {
		return fmt.Errorf("take the authority's key: %w", err)
	}
	authority, err := trust.ParseAuthority(got.Authorities, got.Key)
	if err != nil {
		return err
	}
	return errors.Join(c.Dir.SaveCA(got.Authorities), c.Dir.SaveAuthority(authority))
}

func (c *Client) applicant() (Applicant, []byte, error) {
	request, key, err := trust.NewRequest(c.Host)
	now := time.Now
	if c.Now != nil {
		now = c.Now
	}
	return Applicant{
		Protocol: Protocol, Version: c.Version, Host: c.Host, Addrs: c.Addrs, Clock: now(), Request: request,
	}, key, err
}

// keep writes the certificate last: it says that the rest is there.
func (c *Client) keep(admission Admission, key []byte) error {
	if c.Accept != nil {
		if err := c.Accept(admission); err != nil {
			return err
		}
	}
	if err := c.Dir.SaveCA(admission.Authorities); err != nil {
		return err
	}
	if len(admission.Revoked) > 0 {
		if err := c.Dir.SaveRevoked(admission.Revoked); err != nil {
			return err
		}
	}
	return c.Dir.SaveHost(admission.Certificate, key)
}

// askEach asks the addresses in turn. A refusal is final; that nobody answers at
// one is not.
func askEach[Resp any](ctx context.Context, config *tls.Config, addrs []netip.AddrPort, path string, request any) (Resp, error) {
	var none Resp
	var errs []error
	for _, addr := range addrs {
		response, err := ask[Resp](ctx, config, addr, path, request)
		if err == nil || errors.As(err, new(refusal)) {
			return response, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	if len(errs) == 0 {
		return none, errors.New("no address to ask is known")
	}
	return none, errors.Join(errs...)
}

func ask[Resp any](ctx context.Context, config *tls.Config, addr netip.AddrPort, path string, request any) (Resp, error) {
	var response Resp
	body, err := json.Marshal(request)
	if err != nil {
		return response, err
	}
	client := &http.Client{Timeout: deadline, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, (&url.URL{Scheme: "https", Host: addr.String(), Path: path}).String(), bytes.NewReader(body))
	if err != nil {
		return response, err
	}
	got, err := client.Do(post)
	if err != nil {
		return response, plain(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(io.LimitReader(got.Body, 1<<20))
	if err != nil {
		return response, err
	}
	if got.StatusCode == http.StatusOK {
		return response, json.Unmarshal(text, &response)
	}
	var failed failure
	switch err := json.Unmarshal(text, &failed); {
	case err != nil || failed.Err == "":
		return response, fmt.Errorf("the host there answers %s", got.Status)
	case got.StatusCode == http.StatusForbidden:
		return response, refusal{errors.New(failed.Err)}
	}
	return response, errors.New(failed.Err)
}

// plain takes the request's URL off, which the caller has said.
func plain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
