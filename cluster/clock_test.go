package cluster

import (
	"testing"
	"time"

	"github.com/causeway-net/causeway/trust"
)

// A certificate that was signed while this host's clock was ahead is replaced once it is right
// again, and not only when it begins.
func TestRenewalAfterAClockAhead(t *testing.T) {
	h := newHost(t, "h1")
	h.start("")
	h.stop()
	h.ahead.Store(int64(trust.HostLife + 24*time.Hour))
	must(t, h.moved())
	if certificate, err := h.Dir.Certificate(); err != nil || trust.InForce(certificate, time.Now()) {
		t.Fatalf("it is in force by the right clock: %v", err)
	}
	h.ahead.Store(0)
	must(t, h.moved())
	if certificate, err := h.Dir.Certificate(); err != nil || !trust.InForce(certificate, time.Now()) {
		t.Errorf("it is not in force: %v", err)
	}
}
