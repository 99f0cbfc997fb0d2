package wireguard

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
)

func TestKeyIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.json")
	first, err := readKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := readKey(path)
	if err != nil || again != first {
		t.Errorf("the next start has another key: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file has the mode %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte(`{"private": "abc"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(path); err == nil || !strings.Contains(err.Error(), "wireguard.json is damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestPeersAreTheOtherHostsWithAKey(t *testing.T) {
	key := func() fabric.WireGuard {
		private, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		return fabric.WireGuard{Key: private.PublicKey().String(), Port: 51822}
	}
	own, other := key(), key()
	d := &Device{Config: Config{Host: fabric.Host{Name: "h1"}}}
	got := d.peersOf(map[string]fabric.Host{
		"h1": {Name: "h1", VTEP: netip.MustParseAddr("10.0.0.1"), WireGuard: own},
		"h2": {Name: "h2", VTEP: netip.MustParseAddr("10.0.0.2"), WireGuard: other},
		"h3": {Name: "h3", VTEP: netip.MustParseAddr("10.0.0.3")},
		"h4": {Name: "h4", WireGuard: key()},
	})
	want := map[string]peer{other.Key: {netip.MustParseAddrPort("10.0.0.2:51822"), other.Addr()}}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestChangesLeadFromOneToTheOther(t *testing.T) {
	peers := rapid.MapOf(rapid.StringMatching("[a-e]"), rapid.Custom(func(t *rapid.T) peer {
		return peer{at: netip.AddrPortFrom(netip.IPv4Unspecified(), rapid.Uint16Range(1, 3).Draw(t, "port"))}
	}))
	rapid.Check(t, func(t *rapid.T) {
		before, now := peers.Draw(t, "before"), peers.Draw(t, "now")
		changed, gone := changes(before, now)
		for key, peer := range changed {
			if have, ok := before[key]; ok && have == peer {
				t.Errorf("%s is written though it is as before", key)
			}
		}
		result := maps.Clone(before)
		maps.Copy(result, changed)
		maps.DeleteFunc(result, func(key string, _ peer) bool { return slices.Contains(gone, key) })
		if !maps.Equal(result, now) {
			t.Errorf("got %v, want %v", result, now)
		}
	})
}
