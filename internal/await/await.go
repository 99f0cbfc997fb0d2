// Package await has tests wait for a condition, for as long as it may take and no
// longer than it does.
package await

import (
	"testing"
	"time"
)

// Within calls check until it is content, and fails the test after limit with what
// was waited for and check's last error.
func Within(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("never came within %v: %s: %v", limit, what, err)
		}
	}
}
