package main

import (
	"os/exec"
	"testing"
)

// TestUnitExposure has systemd judge the unit: 10 is a unit without any setting,
// and 4.5 what causeway's can come to (the unit says why).
func TestUnitExposure(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold=45", "../../causeway.service").CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
