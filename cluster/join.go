package cluster

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/causeway-net/causeway/join"
	"github.com/causeway-net/causeway/trust"
)

// join brings a host in that is in no cluster yet.
func (c *Cluster) join(ctx context.Context, token trust.Token) error {
	if _, err := os.Stat(c.Dir.CAKeyFile()); err == nil {
		return fmt.Errorf("--join: %s has the beginnings of a cluster of this host's own: remove it and %s to join another one", c.Dir.CAKeyFile(), c.stateFile())
	}
	if c.hasStore() {
		return fmt.Errorf("--join: %s has a store of this host's own, whose records the cluster would not have: remove it to join", c.storeDir())
	}
	return c.joinWith(ctx, token)
}

// joinAgain is for a host that has a certificate. Another token than before is tried
// all the same: the certificate may have been revoked while this host was away.
func (c *Cluster) joinAgain(ctx context.Context, token trust.Token) error {
	if token.ID == c.State().Token {
		return nil
	}
	bundle, err := c.Dir.CA()
	if err != nil {
		return err
	}
	authorities, err := trust.ParseCertificates(bundle)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(authorities, func(a *x509.Certificate) bool { return trust.Pin(a) == token.Pin }) {
		return fmt.Errorf("--join: the token is of another cluster than the one that %s belongs to: take --join out, "+
			"or remove that folder to leave this cluster", c.DataDir)
	}
	unusable, err := c.unusable()
	if err != nil {
		return err
	}
	if err := c.joinWith(ctx, token); err != nil {
		if unusable {
			return err
		}
		c.Log.WithError(err).Warn("the token is not needed: this host is in the cluster already")
	}
	return nil
}

// unusable says whether this host's certificate was revoked or is not in force.
func (c *Cluster) unusable() (bool, error) {
	certificate, err := c.Dir.Certificate()
	if err != nil {
		return false, err
	}
	revoked, err := c.Dir.Revoked()
	return revoked[certificate.SerialNumber.String()] || !trust.InForce(certificate, c.Now()), err
}

func (c *Cluster) joinWith(ctx context.Context, token trust.Token) error {
	client := c.client()
	client.Accept = func(admission join.Admission) error {
		if c.Store != "" && admission.Store != c.Store {
			return fmt.Errorf("--join: this host belongs to another store than that cluster's: remove %s, or give --store-reset to move its records there", c.DataDir)
		}
		member := c.State().Member && slices.Contains(admission.Members, c.clientURL())
		if !member {
			// What was removed from the store cannot go on with its files.
			if err := errors.Join(os.RemoveAll(c.storeDir()), removeFile(c.Dir.CAKeyFile())); err != nil {
				return err
			}
		}
		return c.setState(func(s *State) { *s = State{Members: admission.Members, Member: member, Token: token.ID} })
	}
	if _, err := client.Join(ctx, token); err != nil {
		return fmt.Errorf("--join: %w", err)
	}
	c.Log.Info("this host has joined the cluster")
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !trust.IsNotThere(err) {
		return err
	}
	return nil
}
