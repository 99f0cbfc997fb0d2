package agent

import (
	"context"
	"errors"
	"time"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/records"
)

const (
	newTokenPath    = "/Agent.NewToken"
	tokensPath      = "/Agent.Tokens"
	deleteTokenPath = "/Agent.DeleteToken"
	rotatePath      = "/Agent.RotateAuthority"
	rotationPath    = "/Agent.Rotation"
)

// tokenLife is the request of a token.
type tokenLife struct {
	TTL time.Duration
}

// tokenID is the request to delete one.
type tokenID struct {
	ID string
}

// NewToken is a token as it is shown once.
type NewToken struct {
	ID, Token string
	// Plugin is what this host's managed plugin was installed by; empty for a binary.
	Plugin string
}

// Tokens are the cluster's, by ID.
type Tokens map[string]records.Token

// Rotation is how far the replacement of the authority has come, and which hosts
// have not done the step yet.
type Rotation struct {
	Step  records.RotationStep
	Waits []string
}

func handleTokens(server *plugin.Server, config Config) {
	here := records.Records{Store: config.Store, Host: config.Host.Name}
	plugin.Handle(server, newTokenPath, func(ctx context.Context, request *tokenLife) (*NewToken, error) {
		token, err := config.NewToken(ctx, request.TTL)
		if err != nil {
			return nil, err
		}
		return &NewToken{ID: token.ID, Token: token.String(), Plugin: config.PluginName(ctx)}, nil
	})
	plugin.Handle(server, tokensPath, func(ctx context.Context, _ *nothing) (*Tokens, error) {
		tokens, err := here.Tokens(ctx)
		return (*Tokens)(&tokens), err
	})
	plugin.Handle(server, deleteTokenPath, func(ctx context.Context, request *tokenID) (*nothing, error) {
		if request.ID == "" {
			return nil, errors.New("the request names no token")
		}
		return &nothing{}, here.DeleteToken(ctx, request.ID)
	})
	plugin.Handle(server, rotatePath, func(ctx context.Context, _ *nothing) (*nothing, error) {
		return &nothing{}, config.Rotate(ctx)
	})
	plugin.Handle(server, rotationPath, func(ctx context.Context, _ *nothing) (*Rotation, error) {
		rotation, err := records.ReadRotation(ctx, config.Store)
		if err != nil {
			return nil, err
		}
		waits, err := here.StepWaits(ctx, rotation)
		return &Rotation{Step: rotation.Step, Waits: waits}, err
	})
}

// NewToken makes a token that lets hosts join for a time.
func (c *Client) NewToken(ctx context.Context, ttl time.Duration) (NewToken, error) {
	return ask[NewToken](ctx, c, newTokenPath, tokenLife{TTL: ttl})
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) (Tokens, error) {
	return ask[Tokens](ctx, c, tokensPath, nothing{})
}

// DeleteToken makes a token worthless.
func (c *Client) DeleteToken(ctx context.Context, id string) error {
	_, err := ask[nothing](ctx, c, deleteTokenPath, tokenID{ID: id})
	return err
}

// RotateAuthority begins the replacement of the cluster's authority.
func (c *Client) RotateAuthority(ctx context.Context) error {
	_, err := ask[nothing](ctx, c, rotatePath, nothing{})
	return err
}

// Rotation tells how far the replacement has come.
func (c *Client) Rotation(ctx context.Context) (Rotation, error) {
	return ask[Rotation](ctx, c, rotationPath, nothing{})
}
