// Package pause waits.
package pause

import (
	"context"
	"time"
)

// For waits, or returns ctx's error.
func For(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
