package forward

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/internal/lantest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestHangingToolIsGivenUp has an iptables that never ends, nor lets go of its output.
func TestHangingToolIsGivenUp(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "iptables-legacy"), []byte("#!/bin/sh\nsleep 20\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	c := &legacyChain{Rules: Rules{NS: host.NS, Comment: "test "}, family: ipv4}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.present(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > timeout {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestChainIsDeletedMeanwhile between the look for it and the look into it.
func TestChainIsDeletedMeanwhile(t *testing.T) {
	host := lantest.NewMachine(t, "host")
	host.Script("iptables-nft -P FORWARD DROP")
	c, found, err := findNFTChain(Rules{NS: host.NS, Comment: "test "}, ipv4)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	if err := c.add(t.Context(), ruleNamed("br0")); err != nil {
		t.Fatal(err)
	}
	if got, err := c.present(t.Context()); err != nil || len(got) != 1 || got[0] != "br0" {
		t.Errorf("present %v, %v", got, err)
	}
	host.Script("nft delete table ip filter")
	if got, err := c.present(t.Context()); err != nil || got != nil {
		t.Errorf("present %v, %v", got, err)
	}
	if err := c.remove(t.Context(), "br0"); err != nil {
		t.Error(err)
	}
}
