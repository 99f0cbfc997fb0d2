package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/loopback"
	"github.com/causeway-net/causeway/internal/trusttest"
	"github.com/causeway-net/causeway/kvstore"
)

// NewClosed gives an empty store as a host of a closed cluster has it: over TLS, kept by
// that many members, which write to the disk as they do outside of tests.
func NewClosed(t testing.TB, members int) *kvstore.Etcd {
	t.Helper()
	authority := trusttest.NewAuthority(t)
	client := trusttest.Host(t, authority, "h1").Client()
	var store *kvstore.Etcd
	var urls []string
	for n := range members {
		dir := trusttest.Host(t, authority, fmt.Sprint("m", n+1))
		config := kvstore.MemberConfig{
			Name: fmt.Sprint("m", n+1), DataDir: t.TempDir(), Client: loopback.Next(), Peer: loopback.Next(),
			Host: dir.HostFile(), CA: dir.CAFile(), CRL: dir.CRLFile(),
		}
		if store != nil {
			await.Within(t, 20*time.Second, config.Name+" may join", func() (err error) {
				config.Others, err = store.AddLearner(t.Context(), kvstore.PeerURL(config.Peer))
				return err
			})
		}
		member, err := startMember(t, config)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, kvstore.ClientURL(config.Client))
		if store == nil {
			store = openClosed(t, kvstore.Config{Endpoints: urls, TLS: client})
			continue
		}
		await.Within(t, 20*time.Second, config.Name+" has its vote", func() error { return store.Promote(t.Context(), member.ID()) })
	}
	return openClosed(t, kvstore.Config{Endpoints: urls, TLS: client})
}

func startMember(t testing.TB, config kvstore.MemberConfig) (*kvstore.Member, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	member, err := kvstore.StartMember(ctx, config)
	if err == nil {
		t.Cleanup(func() { closeIt(t, member.Close) })
	}
	return member, err
}

func openClosed(t testing.TB, config kvstore.Config) *kvstore.Etcd {
	store, err := kvstore.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeIt(t, store.Close) })
	return store
}

func closeIt(t testing.TB, end func() error) {
	if err := end(); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
