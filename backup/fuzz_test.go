package backup

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Whatever the copy of a host's records says, it is refused at the start or put back as
// far as it can be used, and the store serves its host afterwards.
func FuzzCopy(f *testing.F) {
	f.Add([]byte(`{"store":"old","attachments":{"d1":{"network":"n1"}},"networks":{"n1":{"id":"n1","name":"foo","mode":"vxlan",` +
		`"subnets":[{"pool":"default-10.0.0.0-24","prefix":"10.0.0.0/24","gateway":"10.0.0.1"}]}},` +
		`"endpoints":{"n1":{"e1":{"id":"e1","network":"n1","host":"h1","mac":"02:00:00:00:00:01","addrs":["10.0.0.2/24"]}}}}`))
	f.Add([]byte(`{"store":"old","networks":{"n1":{"id":"other","subnets":[{"pool":"","prefix":""},{"pool":"x","aux":{"a":""}}]}},"attachments":{"":{"network":"n1"}},"endpoints":{"n1":null}}`))
	f.Add([]byte(`{"store":`))
	etcd, err := kvstore.StartEmbedded(f.Context(), kvstore.EmbeddedConfig{DataDir: f.TempDir(), Volatile: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { etcd.Close() })
	logger := logrus.New()
	logger.SetLevel(logrus.PanicLevel)
	path := filepath.Join(f.TempDir(), "records.json")
	f.Fuzz(func(t *testing.T, file []byte) {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		store, err := Open(etcd, Config{Host: host1, Path: path, Board: health.New(logrus.NewEntry(logger))})
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- store.Run(ctx) }()
		txn := kvstore.Txn{}
		for _, prefix := range []string{
			records.NetworksPrefix, records.NamesPrefix, records.VNIsPrefix, records.AttachmentsPrefix, records.EndpointsPrefix,
			records.PoolsPrefix, records.AddressesPrefix, records.MembersPrefix,
		} {
			txn.Then = append(txn.Then, kvstore.DeletePrefix(prefix))
		}
		if _, err := store.Commit(ctx, txn); err != nil {
			t.Errorf("%q: the store does not serve: %v", file, err)
		}
		cancel()
		<-done
	})
}
