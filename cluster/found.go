package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/causeway-net/causeway/trust"
)

// found makes a cluster of this host alone: an authority, a certificate and the
// store's first member. A store that is here already, of before clusters were
// closed, keeps its records.
func (c *Cluster) found() error {
	if len(c.State().Members) > 0 && !c.State().Member {
		return fmt.Errorf("this host was joining a cluster when it was stopped: give --join again, or remove %s to begin a cluster of its own", c.stateFile())
	}
	if c.Store != "" && !c.hasStore() {
		return errors.New("this host belongs to a store that is elsewhere: give --store as before, or --join with a token of its cluster, " +
			"or --store-reset to begin a new one here with this host's records")
	}
	authority, err := c.Dir.Authority()
	if trust.IsNotThere(err) { // it may be from a start that was killed
		authority, err = c.newAuthority()
	}
	if err != nil {
		return fmt.Errorf("begin a cluster: %w", err)
	}
	if err := c.setState(func(s *State) { *s = State{Member: true, Members: []string{c.clientURL()}} }); err != nil {
		return err
	}
	c.Log.WithField("cluster", trust.PinOf(authority.Certificate)[:12]).Info(
		"this host begins a cluster of its own; \"causeway token\" lets other hosts join")
	return c.sign(authority)
}

func (c *Cluster) newAuthority() (*trust.Authority, error) {
	authority, err := trust.NewAuthority("causeway", c.Now())
	if err != nil {
		return nil, err
	}
	if err := c.Dir.SaveCA(authority.CertificatePEM()); err != nil {
		return nil, err
	}
	return authority, c.Dir.SaveAuthority(authority)
}

// sign gives this host a new certificate.
func (c *Cluster) sign(authority *trust.Authority) error {
	request, key, err := trust.NewRequest(c.Host)
	if err != nil {
		return err
	}
	certificate, err := authority.Sign(request, c.Host, []netip.Addr{c.Address}, c.Now())
	if err != nil {
		return err
	}
	return c.Dir.SaveHost(certificate, key)
}

// moved prepares this host to hold the store where its address may be another than
// before: the members take no certificate for another one, and the store is asked
// at the new one.
func (c *Cluster) moved() error {
	if members := c.State().Members; c.State().Member && !slices.Contains(members, c.clientURL()) {
		if err := c.Keep(append([]string{c.clientURL()}, members...)); err != nil {
			return err
		}
	}
	stale, err := c.stale()
	if err != nil || !stale {
		return err
	}
	authority, err := c.Dir.Authority()
	if err != nil {
		return err
	}
	return c.sign(authority)
}

// stale says whether this host's certificate has to be replaced now: it is for
// another address, or it is due.
func (c *Cluster) stale() (bool, error) {
	certificate, err := c.Dir.Certificate()
	if err != nil {
		return false, err
	}
	if certificate.VerifyHostname(c.Address.String()) != nil {
		return true, nil
	}
	return c.Dir.Due(c.Now())
}

// storeDir is the folder of etcd's files.
func (c *Cluster) storeDir() string { return filepath.Join(c.DataDir, "etcd") }

// hasRun says whether there is the log of a member that ran.
func (c *Cluster) hasRun() bool {
	_, err := os.Stat(filepath.Join(c.storeDir(), "member", "wal"))
	return !errors.Is(err, fs.ErrNotExist)
}

func (c *Cluster) hasStore() bool {
	_, err := os.Stat(c.storeDir())
	return err == nil
}
