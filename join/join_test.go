package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/internal/trusttest"
	"github.com/causeway-net/causeway/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// records is a Cluster with one token.
type records struct {
	mu     sync.Mutex
	tokens map[string]Token
	issued map[string][]string
}

func (r *records) Token(_ context.Context, id string) (Token, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	token, ok := r.tokens[id]
	return token, ok, nil
}

func (r *records) Admit(_ context.Context, applicant Applicant) error {
	if applicant.Host == "taken" {
		return Refusal(errors.New("host name taken is in use by the host with VTEP 10.0.0.9"))
	}
	return nil
}

func (r *records) Issued(_ context.Context, host string, certificate *x509.Certificate, _ string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued[host] = append(r.issued[host], certificate.SerialNumber.String())
	return nil
}

func (r *records) Members(context.Context) ([]string, error) {
	return []string{"https://10.0.0.1:2379"}, nil
}

func (r *records) Store(context.Context) (string, error) { return "store-1", nil }

// first is a cluster of one host that serves those that join.
type first struct {
	dir     trust.Dir
	addr    netip.AddrPort
	pin     [32]byte
	records *records
}

func newFirst(t testing.TB) *first {
	t.Helper()
	authority := trusttest.NewAuthority(t)
	f := &first{
		dir: trusttest.Host(t, authority, "h1"), pin: trust.Pin(authority.Certificate),
		records: &records{tokens: map[string]Token{}, issued: map[string][]string{}},
	}
	must(t, f.dir.SaveAuthority(authority))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	f.addr = netip.MustParseAddrPort(listener.Addr().String())
	log := logrus.New()
	log.SetOutput(t.Output())
	server := &Server{Dir: f.dir, Cluster: f.records, Version: "1.0", Log: logrus.NewEntry(log)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-done)
	})
	return f
}

func (f *first) token(life time.Duration) trust.Token {
	token := trust.NewToken(f.pin, []netip.AddrPort{f.addr})
	f.records.mu.Lock()
	defer f.records.mu.Unlock()
	f.records.tokens[token.ID] = Token{Hash: token.Hash(), Expires: time.Now().Add(life), By: "h1"}
	return token
}

func newClient(t *testing.T, host string) *Client {
	return &Client{Dir: trust.NewDir(t.TempDir()), Host: host, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Version: "1.0"}
}

func TestJoinRenewAndHoldTheStore(t *testing.T) {
	f := newFirst(t)
	client := newClient(t, "h2")
	token := f.token(time.Hour)
	token.Addrs = append([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, token.Addrs...) // nobody answers at the first
	admission, err := client.Join(t.Context(), token)
	must(t, err)
	if admission.Store != "store-1" || len(admission.Members) != 1 {
		t.Errorf("admitted with %+v", admission)
	}
	before, err := client.Dir.Certificate()
	must(t, err)
	if _, err := client.Renew(t.Context(), []netip.AddrPort{f.addr}); err != nil {
		t.Fatal(err)
	}
	after, err := client.Dir.Certificate()
	must(t, err)
	if before.SerialNumber.Cmp(after.SerialNumber) == 0 || len(f.records.issued["h2"]) != 2 {
		t.Errorf("renewed %v to %v, issued %v", before.SerialNumber, after.SerialNumber, f.records.issued)
	}
	must(t, client.TakeAuthority(t.Context(), []netip.AddrPort{f.addr}))
	if authority, err := client.Dir.Authority(); err != nil || trust.Pin(authority.Certificate) != f.pin {
		t.Errorf("the authority is %v, %v", authority, err)
	}
	client.Host = "h1" // a host gets no certificate but its own
	if _, err := client.Renew(t.Context(), []netip.AddrPort{f.addr}); err == nil || !strings.Contains(err.Error(), "host h2 asked for the certificate of host h1") {
		t.Errorf("another's certificate: %v", err)
	}
}

func TestJoinIsRefused(t *testing.T) {
	f, other := newFirst(t), newFirst(t)
	for name, test := range map[string]struct {
		change func(*Client, *trust.Token)
		token  trust.Token
		want   string
	}{
		"expired":         {nil, f.token(-time.Minute), "the token expired at"},
		"removed":         {func(_ *Client, token *trust.Token) { token.ID = "00000000" }, f.token(time.Hour), "the token is not known in this cluster"},
		"wrong secret":    {func(_ *Client, token *trust.Token) { token.Secret[0]++ }, f.token(time.Hour), "the token is not known in this cluster"},
		"another cluster": {func(_ *Client, token *trust.Token) { token.Addrs[0] = other.addr }, f.token(time.Hour), "a certificate of another cluster"},
		"nobody there":    {func(_ *Client, token *trust.Token) { token.Addrs[0] = netip.MustParseAddrPort("127.0.0.1:1") }, f.token(time.Hour), "connection refused"},
		"clock": {func(client *Client, _ *trust.Token) {
			client.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
		}, f.token(time.Hour), "the clock of this host is off by 24h0m"},
		"name taken": {func(client *Client, _ *trust.Token) { client.Host = "taken" }, f.token(time.Hour), "host name taken is in use"},
	} {
		client := newClient(t, "h2")
		if test.change != nil {
			test.change(client, &test.token)
		}
		_, err := client.Join(t.Context(), test.token)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if client.Dir.HasCertificate() {
			t.Errorf("%s: it has a certificate", name)
		}
	}
	for protocol, version := range map[int]string{Protocol - 1: "0.1", Protocol + 1: "9.0"} {
		applicant := Applicant{Protocol: protocol, Version: version, Host: "h2", Clock: time.Now()}
		_, err := ask[Admission](t.Context(), trust.Pinned(f.pin), f.addr, joinPath, applicant)
		if err == nil || !strings.Contains(err.Error(), "this host has causeway "+version+", and the cluster 1.0") {
			t.Errorf("version %s: %v", version, err)
		}
	}
}

// Who has no certificate of the cluster gets neither a renewal nor the key.
func TestStrangersGetNothing(t *testing.T) {
	f := newFirst(t)
	for _, path := range []string{renewPath, authorityPath} {
		_, err := ask[authorityAnswer](t.Context(), trust.Pinned(f.pin), f.addr, path, Applicant{Host: "h1"})
		if err == nil || !strings.Contains(err.Error(), "this takes the certificate of a host") {
			t.Errorf("%s: %v", path, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for _, body := range []string{"", "{", strings.Repeat("x", maxBody+1), `{"host":1}`} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("https://%s%s", f.addr, joinPath), strings.NewReader(body))
		must(t, err)
		response, err := client.Do(request)
		if err != nil {
			t.Errorf("%.10q: %v", body, err)
			continue
		}
		response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%.10q: %s", body, response.Status)
		}
	}
}
