package etcdserver

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An etcd that cannot go on ends its server, not the process.
func TestServerThatFails(t *testing.T) {
	config := BaseConfig(t.TempDir(), true)
	config.ListenPeerUrls, config.ListenClientUrls = nil, nil
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	s := New(t.TempDir(), nil)
	if err := s.Start(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	go s.log.logger().Fatal("failed to save Raft hard state and entries")
	<-s.Failed()
	if err := s.Failure(); !strings.HasSuffix(err.Error(), "has failed: failed to save Raft hard state and entries") {
		t.Error(err)
	}
	s.Embed.Close() // which Close leaves running
}
