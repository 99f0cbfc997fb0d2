package kvstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"sync"

	"github.com/sirupsen/logrus"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/kvstore/etcdserver"
)

// MemberConfig says how to run one member of a closed store in this process.
type MemberConfig struct {
	// Name is the member's in the store: the host's key.
	Name string
	// DataDir takes the member's files, in DataDir/etcd.
	DataDir string
	// Client and Peer are where hosts and other members reach it, over TLS alone.
	Client, Peer netip.AddrPort
	// Host is the file with this host's certificate and key, CA that of the
	// authorities, CRL that of the revoked certificates: etcd reads Host and CRL
	// at each handshake, and CA at the start alone.
	Host, CA, CRL string
	// Others are the peer URLs of the members that are there, by name, for one that
	// joins them; empty for the first.
	Others map[string]string
	// Board takes what is wrong with the member's disk; Log the server's errors.
	Board *health.Board
	Log   *logrus.Entry
	// Volatile says that nothing has to outlive a crash of the machine, for tests.
	Volatile bool
}

// Member is a running member.
type Member struct {
	*etcdserver.Server
	stop context.CancelFunc
	room sync.WaitGroup
}

// ClientURL is where a member takes requests.
func ClientURL(at netip.AddrPort) string { return "https://" + at.String() }

// PeerURL is where other members reach a member.
func PeerURL(at netip.AddrPort) string { return "https://" + at.String() }

// StartMember runs a member and returns when it is a part of the store, or why
// not. One that joins is a learner at first. It runs until Close.
func StartMember(ctx context.Context, config MemberConfig) (*Member, error) {
	m := &Member{Server: etcdserver.New(config.DataDir, config.Log)}
	if err := m.Start(ctx, memberConfig(config)); err != nil {
		m.Server.Close()
		return nil, fmt.Errorf("start the store's member in %s: %w", config.DataDir, err)
	}
	var room context.Context
	room, m.stop = context.WithCancel(context.Background())
	m.room.Go(func() { m.WatchRoom(room, config.Board) })
	return m, nil
}

// Close stops the member; the others go on. One that leads has another lead first, while
// it still answers: etcd alone does so after it has closed its listeners.
func (m *Member) Close() error {
	m.stop()
	_ = m.Embed.Server.TryTransferLeadershipOnShutdown() // nobody may be there to take it
	m.room.Wait()
	m.Server.Close()
	return nil
}

// ID is the member's in etcd.
func (m *Member) ID() uint64 { return uint64(m.Embed.Server.MemberID()) }

// Leads says whether the member is the leader.
func (m *Member) Leads() bool { return m.Embed.Server.Leader() == m.Embed.Server.MemberID() }

// Yield has the voter with ID to lead in place of this member, which leads.
func (m *Member) Yield(ctx context.Context, to uint64) error {
	err := m.Embed.Server.MoveLeader(ctx, uint64(m.Embed.Server.MemberID()), to)
	if err != nil {
		return fmt.Errorf("move the leadership of the store to member %x: %w", to, err)
	}
	return nil
}

// Learner says whether the member has no vote yet.
func (m *Member) Learner() bool { return m.Embed.Server.IsLearner() }

func memberConfig(config MemberConfig) *embed.Config {
	server := etcdserver.BaseConfig(config.DataDir, config.Volatile)
	server.Name = config.Name
	client, peer := &url.URL{Scheme: "https", Host: config.Client.String()}, &url.URL{Scheme: "https", Host: config.Peer.String()}
	server.ListenClientUrls, server.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	server.ListenPeerUrls, server.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	server.InitialCluster = config.Name + "=" + PeerURL(config.Peer)
	if len(config.Others) > 0 {
		server.ClusterState = embed.ClusterStateFlagExisting
		for name, peer := range config.Others {
			server.InitialCluster += "," + name + "=" + peer
		}
	}
	server.MaxLearners = 4 // those that get their votes one after the other
	server.ClientTLSInfo = transport.TLSInfo{
		CertFile: config.Host, KeyFile: config.Host, TrustedCAFile: config.CA, ClientCertAuth: true,
		// A host's packets may come from another of its addresses.
		SkipClientSANVerify: true, MinVersion: tls.VersionTLS13, CRLFile: config.CRL,
	}
	server.PeerTLSInfo = server.ClientTLSInfo
	return server
}
