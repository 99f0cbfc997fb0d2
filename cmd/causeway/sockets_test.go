package main

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// The lock ends with its holder, and what an old one left is no obstacle.
func TestClaimHost(t *testing.T) {
	run := t.TempDir()
	first, err := claimHost(run)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := claimHost(run); err == nil {
		second.Close()
		t.Error("a second causeway was let in")
	}
	if err := releaseHost(first); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(run); err != nil || len(left) > 0 {
		t.Errorf("the lock leaves %v behind, %v", left, err)
	}
	killed, err := claimHost(run)
	if err != nil {
		t.Fatal(err)
	}
	if err := killed.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := claimHost(run)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err := again.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: others may hold the lock", info.Mode(), err)
	}
	if _, err := claimHost(run + "/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
}
