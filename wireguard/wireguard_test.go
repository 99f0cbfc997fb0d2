package wireguard

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
)

func TestKeysAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.json")
	now := time.Now().UTC().Truncate(time.Second)
	ring, err := readKeys(path, now)
	if err != nil {
		t.Fatal(err)
	}
	next, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	for step, want := range []keyring{ring, ring.offer(next), ring.offer(next).takeUp(now), ring.offer(next).takeUp(now).retire()} {
		if err := want.write(path); err != nil {
			t.Fatal(err)
		}
		if got, err := readKeys(path, now.Add(time.Hour)); err != nil || got != want {
			t.Errorf("step %d: the next start has %+v, not %+v: %v", step, got, want, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the keys' file has the mode %v, %v", info.Mode(), err)
		}
	}
	if err := os.WriteFile(path, []byte(`{"private": "abc"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readKeys(path, now); err == nil || !strings.Contains(err.Error(), "wireguard.json is damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

// A version that knew no rotation kept the key alone: it has its age from now on.
func TestKeyOfAnOlderVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.json")
	private, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"private": "`+private.String()+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, at := range []time.Time{now, now.Add(time.Hour)} {
		if ring, err := readKeys(path, at); err != nil || ring.current != private || !ring.made.Equal(now) {
			t.Errorf("read %+v, %v", ring, err)
		}
	}
}

func TestKeysOfManyHostsAreDueOneByOne(t *testing.T) {
	const age = 720 * time.Hour
	now := time.Now()
	hours := make(map[int]int)
	for range 1000 {
		private, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		after := keyring{current: private, made: now}.due(age).Sub(now)
		if after > age || after <= age*3/4 {
			t.Fatalf("a key of %v is due after %v", age, after)
		}
		hours[int(after.Hours())]++
	}
	for hour, count := range hours {
		if count > 30 { // of 1,000 over 180 hours
			t.Errorf("%d keys are due in hour %d", count, hour)
		}
	}
}

func TestPeersAreTheHostsWithAKey(t *testing.T) {
	key := func() fabric.WireGuard {
		private, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		return fabric.WireGuard{Key: private.PublicKey().String(), Port: 51822}
	}
	other, next := key(), key()
	got := peersOf(map[string]fabric.Host{
		"h2": {Name: "h2", VTEP: netip.MustParseAddr("10.0.0.2"), Ends: fabric.Ends{WireGuard: other, Next: next}},
		"h3": {Name: "h3", VTEP: netip.MustParseAddr("10.0.0.3")},
		"h4": {Name: "h4", Ends: fabric.Ends{WireGuard: key()}},
	})
	want := map[string]peer{
		other.Key: {netip.MustParseAddrPort("10.0.0.2:51822"), other.Addr()},
		next.Key:  {netip.MustParseAddrPort("10.0.0.2:51822"), next.Addr()},
	}
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
