package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newHost gives the folder of a host that the authority has signed.
func newHost(t *testing.T, a *Authority, name string, now time.Time) Dir {
	t.Helper()
	dir := NewDir(t.TempDir() + "/trust")
	must(t, dir.SaveCA(a.CertificatePEM()))
	issue(t, dir, a, name, now)
	return dir
}

func issue(t *testing.T, dir Dir, a *Authority, name string, now time.Time) {
	t.Helper()
	request, key, err := NewRequest(name)
	must(t, err)
	certificate, err := a.Sign(request, name, []netip.Addr{netip.MustParseAddr("10.0.0.1")}, now)
	must(t, err)
	must(t, dir.SaveHost(certificate, key))
}

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority("causeway test", time.Now())
	must(t, err)
	return a
}

// handshake gives the errors of both sides.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			secure := tls.Server(conn, server)
			if err = secure.HandshakeContext(t.Context()); err == nil {
				_, err = secure.Write([]byte("x"))
			}
		}
		served <- err
	}()
	conn, err := (&tls.Dialer{Config: client}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a refusal comes after the client's handshake
	}
	return <-served, err
}

func TestMutualTLS(t *testing.T) {
	a, other, now := newAuthority(t), newAuthority(t), time.Now()
	h1, h2, stranger := newHost(t, a, "h1", now), newHost(t, a, "h2", now), newHost(t, other, "h9", now)
	expired := newHost(t, a, "old", now.Add(-2*HostLife))
	nobody := &tls.Config{InsecureSkipVerify: true}
	for name, test := range map[string]struct {
		server, client *tls.Config
		ok             bool
	}{
		"two hosts":                      {h1.Server(true), h2.Client(), true},
		"a host of another cluster":      {h1.Server(true), stranger.Client(), false},
		"a server of another cluster":    {stranger.Server(false), h1.Client(), false},
		"an expired certificate":         {h1.Server(true), expired.Client(), false},
		"no certificate":                 {h1.Server(true), nobody, false},
		"no certificate, to join":        {h1.Server(false), Pinned(Pin(a.Certificate)), true},
		"to join another cluster":        {stranger.Server(false), Pinned(Pin(a.Certificate)), false},
		"to join with a certificate":     {h1.Server(false), h2.Client(), true},
		"to join with another cluster's": {h1.Server(false), stranger.Client(), false},
	} {
		serverErr, clientErr := handshake(t, test.server, test.client)
		if ok := serverErr == nil && clientErr == nil; ok != test.ok {
			t.Errorf("%s: server %v, client %v", name, serverErr, clientErr)
		}
	}
	_, err := handshake(t, stranger.Server(false), Pinned(Pin(a.Certificate)))
	if !errors.Is(err, ErrOtherCluster) {
		t.Errorf("another cluster: %v", err)
	}
}

// A revoked certificate, a renewed one and a new authority count from the next
// handshake on, with the configurations that are in use.
func TestFilesAreReadAgain(t *testing.T) {
	a, now := newAuthority(t), time.Now()
	h1, h2 := newHost(t, a, "h1", now), newHost(t, a, "h2", now)
	server, client := h1.Server(true), h2.Client()
	try := func(what string, want bool) {
		t.Helper()
		serverErr, clientErr := handshake(t, server, client)
		if ok := serverErr == nil && clientErr == nil; ok != want {
			t.Errorf("%s: server %v, client %v", what, serverErr, clientErr)
		}
	}
	try("at first", true)
	certificate, err := h2.Certificate()
	must(t, err)
	list, err := a.RevocationList(1, []*big.Int{certificate.SerialNumber}, now)
	must(t, err)
	must(t, h1.SaveRevoked(list))
	try("revoked", false)
	issue(t, h2, a, "h2", now)
	try("with another certificate", true)

	next := newAuthority(t)
	both := slices.Concat(next.CertificatePEM(), a.CertificatePEM())
	must(t, h1.SaveCA(both))
	must(t, h2.SaveCA(both))
	try("while both authorities are believed", true)
	if due, err := h2.Due(now); err != nil || !due {
		t.Errorf("under a new authority a certificate is due: %v, %v", due, err)
	}
	issue(t, h2, next, "h2", now)
	try("with a certificate of the next", true)
	must(t, h1.SaveCA(next.CertificatePEM()))
	issue(t, h1, next, "h1", now)
	must(t, h2.SaveCA(next.CertificatePEM()))
	try("under the next alone", true)
}

func TestDue(t *testing.T) {
	a, now := newAuthority(t), time.Now()
	h := newHost(t, a, "h1", now)
	for _, test := range []struct {
		age  time.Duration
		want bool
	}{{0, false}, {HostLife / 4, false}, {HostLife / 2, true}, {2 * HostLife, true}} {
		if due, err := h.Due(now.Add(test.age)); err != nil || due != test.want {
			t.Errorf("after %v: %v, %v", test.age, due, err)
		}
	}
}

func TestKeysAreForRootAlone(t *testing.T) {
	a := newAuthority(t)
	h := newHost(t, a, "h1", time.Now())
	must(t, h.SaveAuthority(a))
	for _, file := range []string{h.HostFile(), h.CAKeyFile()} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	read, err := h.Authority()
	if err != nil || !read.Certificate.Equal(a.Certificate) {
		t.Errorf("read back: %v", err)
	}
	must(t, h.SaveCA(newAuthority(t).CertificatePEM()))
	if _, err := h.Authority(); err == nil {
		t.Error("a key without its certificate was taken")
	}
}

func TestRequestsAreChecked(t *testing.T) {
	a := newAuthority(t)
	request, _, err := NewRequest("h1")
	must(t, err)
	block, _ := pem.Decode(request)
	block.Bytes[len(block.Bytes)-1] ^= 1
	for name, text := range map[string][]byte{"empty": nil, "no PEM": []byte("x"), "forged": pem.EncodeToMemory(block)} {
		if _, err := a.Sign(text, "h1", nil, time.Now()); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	signed, err := a.Sign(request, "h7", nil, time.Now())
	must(t, err)
	certificates, err := ParseCertificates(signed)
	must(t, err)
	if leaf := certificates[0]; leaf.Subject.CommonName != "h7" || leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Errorf("the certificate is for %s, CA %v", leaf.Subject.CommonName, leaf.IsCA)
	}
}

func TestTokenReadsBack(t *testing.T) {
	a := newAuthority(t)
	rapid.Check(t, func(t *rapid.T) {
		addrs := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:4790")}
		if rapid.Bool().Draw(t, "second") {
			addrs = append(addrs, netip.MustParseAddrPort("[fd00::1]:4790"))
		}
		token := NewToken(Pin(a.Certificate), addrs)
		text := token.String()
		read, err := ParseToken(" " + text + "\n")
		if err != nil || read.ID != token.ID || read.Secret != token.Secret || read.Pin != token.Pin || !slices.Equal(read.Addrs, addrs) {
			t.Fatalf("%s became %+v, %v", text, read, err)
		}
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		changed := text[:at] + string(rapid.SampledFrom([]rune("aZ9-_.")).Draw(t, "rune")) + text[at+1:]
		if read, err := ParseToken(changed); err == nil && changed != text && read.String() == changed {
			t.Fatalf("%s was changed to %s and taken", text, changed)
		}
		if _, err := ParseToken(text[:at]); err == nil {
			t.Fatalf("%s was taken", text[:at])
		}
	})
}

func TestTokenErrorsSayWhatToDo(t *testing.T) {
	for _, text := range []string{"", "x", "cw2-abc", tokenPrefix, tokenPrefix + "AAAA", tokenPrefix + "%%%"} {
		if _, err := ParseToken(text); err == nil || !strings.Contains(err.Error(), "mangled") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("cw1-AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && len(token.Addrs) == 0 {
			t.Error("a token without an address was taken")
		}
	})
}
