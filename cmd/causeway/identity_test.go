package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIdentityOutlivesARename(t *testing.T) {
	dir := t.TempDir()
	first, err := readIdentity(settings{dataDir: dir, hostName: "h1"})
	if err != nil || first.Host != "h1" || first.Store != "" {
		t.Fatalf("%+v, %v", first.identityFile, err)
	}
	if err := first.keepStore("A"); err != nil {
		t.Fatal(err)
	}
	refused, err := readIdentity(settings{dataDir: dir, hostName: "h2"})
	if err != nil || refused.Host != "h2" || refused.Store != "A" {
		t.Fatalf("a name that was not accepted is kept: %+v, %v", refused.identityFile, err)
	}
	if err := first.keepHost(); err != nil {
		t.Fatal(err)
	}
	renamed, err := readIdentity(settings{dataDir: dir, hostName: "web"})
	if err != nil || renamed.Host != "h1" || renamed.Store != "A" {
		t.Errorf("%+v, %v", renamed.identityFile, err)
	}
	host, _, err := findHost(settings{vtep: "127.0.0.1"}, renamed)
	if err != nil || host.Name != "h1" || host.Display != "web" || host.Shown() != "web" {
		t.Errorf("%+v, %v", host, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "identity.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readIdentity(settings{dataDir: dir, hostName: "h1"}); err == nil || !strings.Contains(err.Error(), "identity.json is damaged") {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestStorePassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	s := settings{passwordFile: file}
	if _, err := s.storePassword(); err == nil {
		t.Error("a missing file was taken")
	}
	for text, want := range map[string]string{"secret\n": "secret", "a b": "a b", "\n": ""} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := s.storePassword(); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
}

func TestSettingsAreChecked(t *testing.T) {
	for want, set := range map[string]func(*settings){
		"":                            func(s *settings) { s.username, s.passwordFile = "u", "/f" },
		"go together":                 func(s *settings) { s.username = "u" },
		"both give the password":      func(s *settings) { s.username, s.password, s.passwordFile = "u", "p", "/f" },
		"it must be local or global":  func(s *settings) { s.scope = "swarm" },
		"--store names another":       func(s *settings) { s.store, s.storeListen = []string{"https://h"}, "https://h" },
		"cannot share one":            func(s *settings) { s.vxlanPort = s.ovsVXLANPort },
		"must be 0 or at least 1m":    func(s *settings) { s.hostExpiry = 1 },
		"--vxlan-port and --ovs-vxla": func(s *settings) { s.vxlanPort = 0 },
		"--join is for a cluster":     func(s *settings) { s.join, s.store = "cw1-x", []string{"http://localhost:2379"} },
		"--store-member is \"maybe\"": func(s *settings) { s.storeMember = "maybe" },
		"--cluster-port is 65534":     func(s *settings) { s.clusterPort = 65534 },
		"--wireguard-port is 65535":   func(s *settings) { s.wireguardPort = 65535 },
		"--wireguard-key-age is 1m":   func(s *settings) { s.wireguardKeyAge = time.Minute },
	} {
		s := settings{scope: "local", vxlanPort: 4789, ovsVXLANPort: 8472, wireguardPort: 51822, clusterPort: 2378, storeMember: "auto"}
		set(&s)
		if err := s.check(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// A store in clear text beyond this host is taken only where it is asked for.
func TestInsecureStoreIsRefused(t *testing.T) {
	for _, test := range []struct {
		endpoint string
		secure   bool
		refused  bool
	}{
		{"http://10.0.0.1:2379", false, true},
		{"http://etcd1", false, true},
		{"10.0.0.1", false, true},
		{"[fd00::1]:2379", false, true},
		{":2379", false, true},
		{"http://10.0.0.1:2379", true, true},
		{"10.0.0.1:2379", true, false},
		{"https://10.0.0.1:2379", false, false},
		{"http://127.0.0.1:2379", false, false},
		{"http://[::1]:2379/", false, false},
		{"localhost:2379", false, false},
	} {
		base := settings{scope: "local", vxlanPort: 4789, ovsVXLANPort: 8472, wireguardPort: 51822, clusterPort: 2378, storeMember: "auto"}
		if test.secure {
			base.cert, base.key = "/c", "/k"
		}
		use, offer := base, base
		use.store, offer.storeListen = []string{"https://h", test.endpoint}, test.endpoint
		for _, s := range []settings{use, offer} {
			if err := s.check(); (err != nil) != test.refused || err != nil && !strings.Contains(err.Error(), "is plain HTTP") {
				t.Errorf("%q with %q: %v", s.store, s.storeListen, err)
			}
			s.storeInsecure = true
			if err := s.check(); err != nil {
				t.Errorf("%q with %q and --store-insecure: %v", s.store, s.storeListen, err)
			}
		}
	}
}
