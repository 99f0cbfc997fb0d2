package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/causeway-net/causeway/internal/statefile"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/trust"
)

// Restore makes this host, which does not run, hold the store of a snapshot alone.
// config needs DataDir, Host, Port and no more; prefix is that of the records. The
// cluster's other hosts know this one as a member of the store and come to it.
func Restore(ctx context.Context, config Config, snapshot, prefix string) error {
	c := &Cluster{Config: config, Dir: trust.NewDir(filepath.Join(config.DataDir, "trust"))}
	if _, err := c.Dir.Authority(); trust.IsNotThere(err) {
		return errors.New("this host does not hold the store: run the command on one that does, \"causeway hosts\" shows which")
	}
	certificate, err := c.Dir.Certificate()
	if err != nil {
		return err
	}
	address, ok := netip.AddrFromSlice(certificate.IPAddresses[0])
	if !ok {
		return fmt.Errorf("the certificate of host %s has no address", c.Host)
	}
	c.Address = address.Unmap()
	state, err := statefile.Read[State](c.stateFile())
	if err != nil {
		return err
	}
	state.ID, err = kvstore.Restore(ctx, kvstore.Restoring{
		Snapshot: snapshot, DataDir: c.DataDir, Prefix: prefix, Member: c.Host, Peer: c.Peer(),
	})
	if err != nil {
		return err
	}
	state.Member, state.Members = true, []string{c.clientURL()}
	return statefile.Write(c.stateFile(), state)
}
