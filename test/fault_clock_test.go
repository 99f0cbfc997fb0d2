package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// clockFaults are those of h2's clock. Another host's causeway starts again meanwhile, so that
// connections are made with the wrong clock too.
func (b *faultBed) clockFaults() []fault {
	causeway := func(n int) lab.Service { return b.host(n).Causeway }
	var list []fault
	for _, clock := range []struct {
		is string
		by time.Duration
		// What is read where it starts so: the others' certificates, of a few minutes ago,
		// seem to have expired, or not to have begun.
		command, told string
		teller        int
	}{
		{"a day ahead", 24 * time.Hour, "doctor --all", "The clock of host h2 is", 1},
		{"40 days ahead", 40 * 24 * time.Hour, "status", "unavailable", 2},
		{"a day behind", -24 * time.Hour, "status", "unavailable", 2},
	} {
		list = append(list,
			fault{
				name: "the clock is stepped: " + clock.is, hosts: []int{2, 3}, lasts: 20 * time.Second, long: true,
				command: "doctor --all", told: "The clock of host h2 is", teller: 1,
				prepare: (*faultBed).takeSteppedBuild,
				inject:  both(stepsClock(clock.by), both(kills(causeway, 3), starts(causeway, 3))), heal: stepsClock(0),
			},
			fault{
				name: "the clock is wrong at the start: " + clock.is, hosts: []int{2, 3}, lasts: 20 * time.Second, long: true,
				command: clock.command, told: clock.told, teller: clock.teller,
				prepare: (*faultBed).takeSteppedBuild,
				inject:  both(kills(causeway, 2), both(stepsClock(clock.by), starts(causeway, 2))), heal: stepsClock(0),
			})
	}
	return list
}

// stepsClock sets h2's clock so far ahead.
func stepsClock(by time.Duration) act {
	return func(b *faultBed) error {
		return os.WriteFile(b.host(2).Path("/run/clock-step"), fmt.Append(nil, int64(by.Seconds())), 0o644)
	}
}

// takeSteppedBuild has h2 run a build whose clock stepsClock sets; it stays there, right, after
// the fault.
func (b *faultBed) takeSteppedBuild() error {
	daemon := b.host(2).Causeway.(*lab.Daemon)
	if daemon.Binary != "" {
		return nil
	}
	version, err := b.host(2).try("causeway", "version")
	if err != nil {
		return err
	}
	built, err := buildStepped(b.Context(), b.files, strings.TrimPrefix(version, "causeway "))
	if err != nil {
		return err
	}
	daemon.Binary = built
	return daemon.Restart(b.Context())
}

// buildStepped builds causeway with a wall clock of its own. Neither a time namespace nor
// libfaketime moves the clock that a static Go program reads, so Go's own time.Now is replaced
// in this build (go build -overlay): all that asks for the time is told it, TLS and etcd too.
func buildStepped(ctx context.Context, folder, version string) (path string, err error) {
	overlay, err := steppedClock(ctx, folder)
	if err != nil {
		return "", err
	}
	path = filepath.Join(folder, "causeway-stepped")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-trimpath", "-ldflags=-s -w -X main.stamped="+version, "-o", path, "../cmd/causeway")
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
}

// steppedClock writes the list of files that such a build has in place of others.
func steppedClock(ctx context.Context, folder string) (overlay string, err error) {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src/time")
	text, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		return "", err
	}
	const reads = "sec, nsec, mono := runtimeNow()\n"
	if strings.Count(string(text), reads) != 1 {
		return "", fmt.Errorf("this Go's time.Now does not read the clock by %q", reads)
	}
	patched := filepath.Join(folder, "time.go")
	if err := os.WriteFile(patched, []byte(strings.Replace(string(text), reads, reads+"\tsec += wallStep.Load()\n", 1)), 0o644); err != nil {
		return "", err
	}
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(std, "time.go"):                        patched,
		filepath.Join(std, "step.go"):                        filepath.Join(here, "testdata/clock/step.go.txt"),
		filepath.Join(here, "../cmd/causeway/clock_step.go"): filepath.Join(here, "testdata/clock/main.go.txt"),
	}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(folder, "overlay.json")
	return overlay, os.WriteFile(overlay, list, 0o644)
}
