package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHider(t *testing.T) {
	dir := t.TempDir()
	const key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIGJhc2U2NGJhc2U2NGJhc2U2NGJhc2U2NGJhc2U2\n-----END PRIVATE KEY-----\n"
	const device = "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd28="
	for name, text := range map[string]string{"host.pem": key, "wireguard.json": `{"private": "` + device + `"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, err := newHider(dir)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"a " + key + "b": "a " + removed + "\nb",
		"MC4CAQAwBQYDK2VwBCIEIGJhc2U2NGJhc2U2NGJhc2U2NGJhc2U2NGJhc2U2": removed,
		"peer " + device:                        "peer " + removed,
		"serve --join cw1-abc_DEF-123 --vtep x": "serve --join cw1-" + removed + " --vtep x",
		`"HttpProxy":"http://me:pw@proxy:1/"`:   `"HttpProxy":"http://` + removed + `@proxy:1/"`,
		"CAUSEWAY_STORE_PASSWORD=abc def":       "CAUSEWAY_STORE_PASSWORD=" + removed + " def",
		`{"password": "abc def"}`:               `{"password": ` + removed + `}`,
		"--store-password hush --names":         "--store-password " + removed + " --names",
		"private key: (hidden)":                 "private key: " + removed,
		"docker swarm join --token SWMTKN-1-ab": "docker swarm join --token SWMTKN-" + removed,
		"10.0.0.1 via 10.0.0.2 dev eth0":        "10.0.0.1 via 10.0.0.2 dev eth0",
	} {
		if got := h.hide(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestNothingOfThisHostIsMissingWithoutAWord(t *testing.T) {
	text, err := run("ip -d -s link")(t.Context())
	if err != nil || !strings.Contains(text, "lo:") {
		t.Errorf("%v: %s", err, text)
	}
	if text, err := run("ip link show dev nonesuch")(t.Context()); err == nil || !strings.Contains(err.Error(), "nonesuch") {
		t.Errorf("%v: %s", err, text)
	}
}
