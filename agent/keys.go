package agent

import (
	"context"

	"github.com/causeway-net/causeway/internal/plugin"
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
	// Waits are the hosts that do not let the next one in yet.
	Waits []string
}

const (
	rotateKeyPath   = "/Agent.RotateKey"
	keyRotationPath = "/Agent.KeyRotation"
)

func handleKeys(server *plugin.Server, config Config) {
	plugin.Handle(server, rotateKeyPath, func(context.Context, *nothing) (*nothing, error) {
		return &nothing{}, config.Keys.Rotate()
	})
	plugin.Handle(server, keyRotationPath, func(context.Context, *nothing) (*KeyRotation, error) {
		key, waits := config.Keys.Rotation()
		return &KeyRotation{Key: key, Waits: waits}, nil
	})
}

// RotateKey has the agent's host make another key for encrypted networks. It does not
// wait for it.
func (c *Client) RotateKey(ctx context.Context) error {
	_, err := ask[nothing](ctx, c, rotateKeyPath, nothing{})
	return err
}

// KeyRotation tells how far that has come.
func (c *Client) KeyRotation(ctx context.Context) (KeyRotation, error) {
	return ask[KeyRotation](ctx, c, keyRotationPath, nothing{})
}
