package records

import (
	"context"
	"strings"
	"time"

	"github.com/causeway-net/causeway/kvstore"
)

// Questions are what hosts ask each other through the store: a record each below Asks, by
// its ID, and the answers to it below Answers(ID), by host.
type Questions[Q any] struct {
	Store   kvstore.Store
	Asks    string
	Answers func(id string) string
	// At is when a question was put.
	At func(Q) time.Time
}

// leftAfter is the age of a question that a crash has left: nobody waits so long.
const leftAfter = time.Minute

// Put asks.
func (q Questions[Q]) Put(ctx context.Context, id string, question Q) error {
	_, err := q.Store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(q.Asks+id, question)}})
	return err
}

// Answer writes a host's answer, or returns [kvstore.ErrConflict] where the question no
// longer stands.
func (q Questions[Q]) Answer(ctx context.Context, id, host string, answer any) error {
	_, err := q.Store.Commit(ctx, kvstore.Txn{
		If:   []kvstore.Guard{kvstore.Exists(q.Asks + id)},
		Then: []kvstore.Op{kvstore.Put(q.Answers(id)+host, answer)},
	})
	return err
}

// Remove deletes a question with its answers.
func (q Questions[Q]) Remove(ctx context.Context, id string) error {
	_, err := q.Store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Delete(q.Asks + id), kvstore.DeletePrefix(q.Answers(id))}})
	return err
}

// Tidy removes the questions that a crash has left, and those that cannot be read.
func (q Questions[Q]) Tidy(ctx context.Context, now time.Time) error {
	left, err := q.Store.List(ctx, q.Asks)
	if err != nil {
		return err
	}
	for key, item := range left.Items {
		question, err := kvstore.Decode[Q](item)
		if err == nil && now.Sub(q.At(question)).Abs() < leftAfter {
			continue
		}
		if err := q.Remove(ctx, strings.TrimPrefix(key, q.Asks)); err != nil {
			return err
		}
	}
	return nil
}
