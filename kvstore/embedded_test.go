package kvstore

import (
	"testing"
	"time"
)

func TestEmbeddedStartsQuickly(t *testing.T) {
	start := time.Now()
	e, err := StartEmbedded(t.Context(), EmbeddedConfig{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ready in %v", time.Since(start))
	if _, err := e.Commit(t.Context(), Txn{Then: []Op{Put("a", 1)}}); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed in %v", time.Since(start))
}
