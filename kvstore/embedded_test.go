package kvstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEmbeddedKeepsItsRecords(t *testing.T) {
	t.Parallel()
	config := EmbeddedConfig{DataDir: filepath.Join(t.TempDir(), "made", "here")}
	start := time.Now()
	first := startEmbedded(t, config)
	t.Logf("ready in %v", time.Since(start))
	if first.Endpoint() != "" {
		t.Errorf("without Listen, it has the endpoint %s", first.Endpoint())
	}
	put(t, first, "a", 1)
	start = time.Now()
	closeStore(t, first)
	t.Logf("closed in %v", time.Since(start))
	if err := first.Health(t.Context()); err == nil {
		t.Error("a closed store is healthy")
	}
	if _, err := startEmbedded(t, config).Get(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

func TestEmbeddedCloseDoesNotWaitForOtherHosts(t *testing.T) {
	t.Parallel()
	server := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	other := open(t, Config{Endpoints: []string{server.Endpoint()}})
	hold(t, other, "alive/other")
	follow(t, other, "networks/")("the empty list", always)
	start := time.Now()
	closeStore(t, server)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestStartEmbeddedRefuses(t *testing.T) {
	t.Parallel()
	used := startEmbedded(t, EmbeddedConfig{DataDir: t.TempDir(), Listen: "127.0.0.1:0"})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, config := range map[string]EmbeddedConfig{
		"not a directory":             {DataDir: filepath.Join(file, "sub")},
		"address already in use":      {DataDir: t.TempDir(), Listen: used.Endpoint()},
		"is not the address":          {DataDir: t.TempDir(), Listen: "unix:///x"},
		"expected IP":                 {DataDir: t.TempDir(), Listen: "example.com:2379"},
		"https takes a certificate":   {DataDir: t.TempDir(), Listen: "https://127.0.0.1:1"},
		"/no/cert.pem":                {DataDir: t.TempDir(), Listen: "127.0.0.1:1", Cert: "/no/cert.pem", Key: "/no/key.pem"},
		"without a certificate to li": {DataDir: t.TempDir(), Listen: "127.0.0.1:1", CACert: newAuthority(t).file},
	} {
		start := time.Now()
		store, err := StartEmbedded(t.Context(), config)
		if err == nil {
			closeStore(t, store)
			t.Errorf("%q: started", want)
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%q: took %v", want, took)
		}
	}
}
