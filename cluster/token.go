package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

// mostAddrs is how many hosts a token names.
const mostAddrs = 5

// NewToken makes a token that lets hosts join for a time.
func (c *Cluster) NewToken(ctx context.Context, etcd *kvstore.Etcd, life time.Duration) (trust.Token, error) {
	const most = 30 * 24 * time.Hour
	if life <= 0 || life > most {
		return trust.Token{}, fmt.Errorf("--ttl is %v: it must be more than 0 and at most %v", life, most)
	}
	bundle, err := c.Dir.CA()
	if err != nil {
		return trust.Token{}, err
	}
	authorities, err := trust.ParseCertificates(bundle)
	if err != nil {
		return trust.Token{}, err
	}
	members, err := voters(ctx, etcd)
	if err != nil {
		return trust.Token{}, err
	}
	addrs := JoinAddrs(members)
	if len(addrs) == 0 {
		return trust.Token{}, errors.New("no host of the cluster takes those that join")
	}
	token := trust.NewToken(trust.Pin(authorities[0]), addrs[:min(len(addrs), mostAddrs)])
	_, err = records.Records{Store: etcd, Host: c.Host, Now: c.Now}.CreateToken(ctx, token.ID, life, token.Hash())
	return token, err
}
