package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/join"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// admit lets hosts in while this host holds the store.
func (c *Cluster) admit(ctx context.Context, etcd *kvstore.Etcd) error {
	for ctx.Err() == nil {
		r, changed := c.runs()
		serving, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if r == nil {
				return
			}
			err := c.serveJoins(serving, etcd)
			if serving.Err() == nil {
				c.Board.Report(health.Scope{Part: health.Certificate, Object: "join"}, err)
			}
		}()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		cancel()
		<-ended
	}
	return nil
}

func (c *Cluster) serveJoins(ctx context.Context, etcd *kvstore.Etcd) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.joinAddr().String())
	if err != nil {
		return fmt.Errorf("no host can join here: %w", err)
	}
	server := &join.Server{Dir: c.Dir, Cluster: admitting{records.Records{Store: etcd, Host: c.Host}, etcd}, Version: c.Version, Log: c.Log, Now: c.Now}
	return server.Serve(ctx, listener)
}

// admitting is a [join.Cluster] over the records.
type admitting struct {
	records.Records
	etcd *kvstore.Etcd
}

func (a admitting) Token(ctx context.Context, id string) (join.Token, bool, error) {
	token, err := a.Records.Token(ctx, id)
	if errors.Is(err, kvstore.ErrNotFound) {
		return join.Token{}, false, nil
	}
	return join.Token(token), err == nil, err
}

func (a admitting) Admit(ctx context.Context, applicant join.Applicant) error {
	host := fabric.Host{Name: applicant.Host}
	if len(applicant.Addrs) > 0 {
		host.VTEP = applicant.Addrs[0]
	}
	if err := records.CheckHost(applicant.Host, host); err != nil {
		return join.Refusal(err)
	}
	err := a.CheckName(ctx, host)
	if errors.As(err, new(*records.RefusedError)) {
		return join.Refusal(err)
	}
	return err
}

func (a admitting) Issued(ctx context.Context, host string, certificate *x509.Certificate, renews string) error {
	err := a.NoteCertificate(ctx, host, recordOf(certificate), renews)
	if errors.Is(err, records.ErrRevoked) {
		return join.Refusal(err)
	}
	return err
}

func recordOf(certificate *x509.Certificate) records.Certificate {
	return records.Certificate{Serial: certificate.SerialNumber.String(), Expires: certificate.NotAfter}
}

func (a admitting) Members(ctx context.Context) ([]string, error) { return voters(ctx, a.etcd) }

func (a admitting) Store(ctx context.Context) (string, error) {
	err := a.etcd.Health(ctx)
	return a.etcd.ID(), err
}

// voters are the URLs of the members that take requests.
func voters(ctx context.Context, etcd *kvstore.Etcd) ([]string, error) {
	members, err := etcd.Members(ctx)
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, m := range members {
		if m.Client != "" && !m.Learner {
			urls = append(urls, m.Client)
		}
	}
	return urls, nil
}
