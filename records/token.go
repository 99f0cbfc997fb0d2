package records

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// Token is what the cluster keeps of a token that lets hosts join.
type Token struct {
	// Hash is that of the token's secret, which nobody keeps.
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
	// By is the host that it was made on.
	By string `json:"by,omitempty"`
}

// CreateToken keeps a token, and deletes those of this host that expired, and of others
// that did so beyond doubt.
func (r Records) CreateToken(ctx context.Context, id string, life time.Duration, hash string) (Token, error) {
	token := Token{Hash: hash, Expires: r.now().Add(life).UTC().Truncate(time.Second), By: r.Host}
	tokens, err := r.Tokens(ctx)
	if err != nil {
		return token, err
	}
	txn := kvstore.Txn{If: []kvstore.Guard{kvstore.Missing(TokenKey(id))}, Then: []kvstore.Op{kvstore.Put(TokenKey(id), token)}}
	for _, old := range slices.Sorted(maps.Keys(tokens)) {
		doubt := clockDoubt
		if tokens[old].By == r.Host {
			doubt = 0
		}
		if r.now().After(tokens[old].Expires.Add(doubt)) && len(txn.Then) < mostPruned {
			txn.Then = append(txn.Then, kvstore.Delete(TokenKey(old)))
		}
	}
	_, err = r.Store.Commit(ctx, txn)
	return token, err
}

// clockDoubt is how wrong this host's clock may be: what others made is kept for so long
// after it has expired, or a host whose clock is stepped ahead would take from the cluster
// what is valid still.
const clockDoubt = 90 * 24 * time.Hour

// mostPruned is how many expired records one transaction deletes.
const mostPruned = 64

// Tokens are all tokens by ID, those that expired too.
func (r Records) Tokens(ctx context.Context) (map[string]Token, error) {
	snapshot, err := r.Store.List(ctx, TokensPrefix)
	if err != nil {
		return nil, err
	}
	tokens, _ := kvstore.DecodeAll[Token](snapshot, TokensPrefix)
	return tokens, nil
}

// Token gives one; the error is [kvstore.ErrNotFound] where there is none.
func (r Records) Token(ctx context.Context, id string) (Token, error) {
	item, err := r.Store.Get(ctx, TokenKey(id))
	if err != nil {
		return Token{}, err
	}
	return kvstore.Decode[Token](item)
}

// DeleteToken deletes a token: no host can join with it any more.
func (r Records) DeleteToken(ctx context.Context, id string) error {
	key := TokenKey(id)
	_, err := r.Store.Commit(ctx, kvstore.Txn{If: []kvstore.Guard{kvstore.Exists(key)}, Then: []kvstore.Op{kvstore.Delete(key)}})
	if errors.Is(err, kvstore.ErrConflict) {
		return fmt.Errorf("the cluster has no token %s", id)
	}
	return err
}
