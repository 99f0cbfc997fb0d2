package kvstore

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"
)

// Whatever file is restored, be it a damaged snapshot or another file with a checksum
// that fits, is a store or an error that leaves what was there.
func FuzzRestore(f *testing.F) {
	etcd, err := StartEmbedded(f.Context(), EmbeddedConfig{DataDir: f.TempDir(), Volatile: true})
	if err != nil {
		f.Fatal(err)
	}
	var whole bytes.Buffer
	if err := etcd.Backup(f.Context(), &whole); err != nil {
		f.Fatal(err)
	}
	if err := etcd.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(0, 0, []byte{}, false)
	f.Add(0, 4096, []byte{}, false)
	f.Add(100, 0, []byte{0xff, 0xff, 0xff}, false)
	f.Add(0, 0, []byte("not a store"), true)
	f.Fuzz(func(t *testing.T, at, length int, put []byte, other bool) {
		snapshot := bytes.Clone(whole.Bytes())
		if at >= 0 && at < len(snapshot) {
			copy(snapshot[at:], put)
		}
		if length > 0 && length < len(snapshot) {
			snapshot = snapshot[:length]
		}
		if other {
			fits := sha256.Sum256(put)
			snapshot = append(bytes.Clone(put), fits[:]...)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "snapshot")
		if err := os.WriteFile(file, snapshot, 0o600); err != nil {
			t.Fatal(err)
		}
		kept := filepath.Join(dir, "etcd", "kept")
		if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Restore(t.Context(), Restoring{Snapshot: file, DataDir: dir}); err == nil {
			return
		}
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("a restore that failed took away what was there: %v", err)
		}
	})
}
