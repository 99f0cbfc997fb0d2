package records

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
)

func TestTokens(t *testing.T) {
	r := newRig(t)
	h1 := r.host("h1")
	for id, life := range map[string]time.Duration{"short": time.Minute, "long": time.Hour} {
		if _, err := h1.CreateToken(t.Context(), id, life, "hash of "+id); err != nil {
			t.Fatal(err)
		}
	}
	r.now = r.now.Add(2 * time.Minute)
	if _, err := r.host("h1").CreateToken(t.Context(), "new", time.Hour, "hash"); err != nil {
		t.Fatal(err)
	}
	tokens, err := h1.Tokens(t.Context())
	if _, expired := tokens["short"]; err != nil || expired || len(tokens) != 2 || tokens["long"].By != "h1" {
		t.Errorf("tokens %v, %v", tokens, err)
	}
	if err := h1.DeleteToken(t.Context(), "long"); err != nil {
		t.Fatal(err)
	}
	if err := h1.DeleteToken(t.Context(), "long"); err == nil || err.Error() != "the cluster has no token long" {
		t.Errorf("deleted again: %v", err)
	}
	if _, err := h1.Token(t.Context(), "long"); !errors.Is(err, kvstore.ErrNotFound) {
		t.Errorf("a deleted token: %v", err)
	}
}

// A host whose clock is a month ahead takes no token and no revocation from the others.
func TestAClockAheadDeletesNothing(t *testing.T) {
	r := newRig(t)
	right := r.now
	if _, err := r.host("h1").CreateToken(t.Context(), "valid", time.Hour, "hash"); err != nil {
		t.Fatal(err)
	}
	note := func(host, serial string) error {
		return r.host(host).NoteCertificate(t.Context(), host, Certificate{Serial: serial, Expires: r.now.Add(time.Hour)}, "")
	}
	if err := errors.Join(note("h2", "1"), r.host("h1").RevokeHost(t.Context(), "h2"), note("h3", "2")); err != nil {
		t.Fatal(err)
	}
	r.now = right.Add(40 * 24 * time.Hour)
	wrong := r.host("h4")
	if _, err := wrong.CreateToken(t.Context(), "new", time.Hour, "hash"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(note("h3", "3"), wrong.RevokeHost(t.Context(), "h3")); err != nil {
		t.Fatal(err)
	}
	r.now = right
	if _, err := r.host("h1").Token(t.Context(), "valid"); err != nil {
		t.Error(err)
	}
	for _, serial := range []string{"1", "2", "3"} {
		if _, _, err := kvstore.Read[Revoked](t.Context(), r.store, RevokedKey(serial)); err != nil {
			t.Errorf("the certificate %s is not revoked: %v", serial, err)
		}
	}
}

// What a removed host holds is revoked, and gets it no other certificate; the
// host's name may come back.
func TestRevokeHost(t *testing.T) {
	r := newRig(t)
	h1 := r.host("h1")
	note := func(serial, renews string) error {
		return r.host("h1").NoteCertificate(t.Context(), "h2", Certificate{Serial: serial, Expires: r.now.Add(time.Hour)}, renews)
	}
	for _, err := range []error{note("1", ""), note("2", "1"), note("2", ""), h1.RevokeHost(t.Context(), "h2")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, serial := range []string{"1", "2"} {
		revoked, _, err := kvstore.Read[Revoked](t.Context(), r.store, RevokedKey(serial))
		if err != nil || revoked.Host != "h2" {
			t.Errorf("revoked %s: %v, %v", serial, revoked, err)
		}
	}
	for name, err := range map[string]error{"renewed": note("3", "2"), "noted again": note("1", "")} {
		if !errors.Is(err, ErrRevoked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := note("4", ""); err != nil {
		t.Errorf("joined again: %v", err)
	}
	r.now = r.now.Add(clockDoubt + 2*time.Hour)
	if err := errors.Join(note("5", ""), r.host("h1").RevokeHost(t.Context(), "h2")); err != nil {
		t.Fatal(err)
	}
	snapshot, err := r.store.List(t.Context(), RevokedPrefix)
	if _, there := snapshot.Items[RevokedKey("5")]; err != nil || len(snapshot.Items) != 1 || !there {
		t.Errorf("after those expired: %v, %v", snapshot.Items, err)
	}
}

func TestCheckName(t *testing.T) {
	r := newRig(t)
	vtep := netip.MustParseAddr("10.0.0.1")
	put := func(key string, value any) {
		if _, err := r.store.Commit(t.Context(), kvstore.Txn{Then: []kvstore.Op{kvstore.Put(key, value)}}); err != nil {
			t.Fatal(err)
		}
	}
	other := fabric.Host{Name: "h1", VTEP: vtep.Next()}
	check := func() error { return r.host("h1").CheckName(t.Context(), other) }
	if err := check(); err != nil {
		t.Error(err)
	}
	put(HostKey("h1"), fabric.Host{Name: "h1", VTEP: vtep})
	if err := check(); err != nil {
		t.Errorf("a host that is gone: %v", err)
	}
	put(AliveKey("h1"), Alive{})
	if err := check(); err == nil || !strings.Contains(err.Error(), "host name h1 is in use by the host with VTEP 10.0.0.1") {
		t.Errorf("a host that lives: %v", err)
	}
	other.VTEP = vtep
	if err := check(); err != nil {
		t.Errorf("the host itself: %v", err)
	}
}
