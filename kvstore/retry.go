package kvstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Retry calls try until it returns anything but [ErrConflict]: what it relied on
// was written by another meanwhile, so it has to read again. Between the calls it
// waits a random time that grows to 100 ms, so that many writers of one record
// get through. It gives up after 30 conflicts or at the end of ctx; what names
// the object in that error, which is an ErrConflict still.
func Retry(ctx context.Context, what string, try func() error) error {
	const tries, most = 30, 100 * time.Millisecond
	limit := time.Millisecond
	for range tries {
		err := try()
		if !errors.Is(err, ErrConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(rand.N(limit)):
		}
		limit = min(2*limit, most)
	}
	return fmt.Errorf("%s: %w too often, try again", what, ErrConflict)
}
