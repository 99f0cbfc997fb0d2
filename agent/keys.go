package agent

import (
	"context"
	"fmt"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Keys rotates a host's key of encrypted networks.
type Keys interface {
	// Rotate asks for another key, and does not wait for it.
	Rotate() error
	// Rotation tells the public key, and which hosts another one waits for.
	Rotation() (key string, waits []string)
}

// KeyRotation is how far the replacement of a host's key has come.
type KeyRotation struct {
	// Key is the public key in use, as wg(8) has it.
	Key string
	// Waits are the hosts that have to do something for the next one: to let it in, or to
	// read that it is asked for.
	Waits []string
}

// keyOwner is the request for a host's key; the agent's own where it names none.
type keyOwner struct {
	Host string
}

const (
	rotateKeyPath   = "/Agent.RotateKey"
	keyRotationPath = "/Agent.KeyRotation"
)

func handleKeys(server *plugin.Server, config Config) {
	plugin.Handle(server, rotateKeyPath, func(ctx context.Context, request *keyOwner) (*nothing, error) {
		key, own, err := config.owner(ctx, request)
		switch {
		case err != nil:
		case own:
			err = config.Keys.Rotate()
		default:
			err = records.AskForKey(ctx, config.Store, key)
		}
		return &nothing{}, err
	})
	plugin.Handle(server, keyRotationPath, func(ctx context.Context, request *keyOwner) (*KeyRotation, error) {
		key, own, err := config.owner(ctx, request)
		if err != nil {
			return nil, err
		}
		if own {
			public, waits := config.Keys.Rotation()
			return &KeyRotation{Key: public, Waits: waits}, nil
		}
		host, _, err := kvstore.Read[fabric.Host](ctx, config.Store, records.HostKey(key))
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", request.Host, err)
		}
		rotation := KeyRotation{Key: host.WireGuard.Key}
		if host.Next.Key == "" {
			rotation.Waits = []string{host.Shown()}
		}
		return &rotation, nil
	})
}

// owner finds the host that a request is about, by its key; own says that it is this one.
func (c Config) owner(ctx context.Context, request *keyOwner) (key string, own bool, err error) {
	if request.Host == "" {
		return c.Host.Name, true, nil
	}
	key, err = hostKey(kvstore.FailFast(ctx), c.Store, request.Host)
	return key, key == c.Host.Name, err
}

// RotateKey has a host make another key for encrypted networks, that of the agent where the
// name is empty. It does not wait for it.
func (c *Client) RotateKey(ctx context.Context, host string) error {
	_, err := ask[nothing](ctx, c, rotateKeyPath, keyOwner{Host: host})
	return err
}

// KeyRotation tells how far that has come.
func (c *Client) KeyRotation(ctx context.Context, host string) (KeyRotation, error) {
	return ask[KeyRotation](ctx, c, keyRotationPath, keyOwner{Host: host})
}
