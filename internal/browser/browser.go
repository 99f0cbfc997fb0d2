// Package browser has tests look at a page in a real Chromium, without a window.
//
// [Start] runs Debian's chromium and speaks its DevTools protocol over a pair of pipes
// (wire.go); a [Page] is opened, read by expressions of JavaScript, and operated by keys
// and clicks as a user does (page.go). What the page writes into its console as an error,
// and what its Content-Security-Policy refuses, fails the test.
package browser

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Browser is a running Chromium.
type Browser struct {
	t    testing.TB
	wire *wire
}

// Path finds Chromium; without one the test is skipped.
func Path(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium: make test-ui installs it")
	}
	return path
}

// Start runs Chromium until the test ends; without one the test is skipped.
func Start(t testing.TB) *Browser {
	t.Helper()
	path, folder := Path(t), t.TempDir()
	toPage, commands, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, fromPage, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, "--headless", "--remote-debugging-pipe", "--user-data-dir="+folder,
		"--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
		"--force-color-profile=srgb", "--hide-scrollbars", "--no-proxy-server") // as root there is no sandbox
	command.Env = append(os.Environ(), "HOME="+folder, "XDG_CONFIG_HOME="+folder) // reports of crashes go there, too
	command.ExtraFiles = []*os.File{toPage, fromPage}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return nil } // by the clean-up, which comes after
	command.WaitDelay = time.Minute
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	toPage.Close()
	fromPage.Close()
	b := &Browser{t, newWire(commands, answers)}
	t.Cleanup(func() {
		_ = b.wire.call("", "Browser.close", nil, nil) // it may end before it answers
		killed := time.AfterFunc(10*time.Second, func() { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) })
		_ = command.Wait()
		killed.Stop()
		_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // its helpers, before their folder goes
		b.wire.close()
	})
	return b
}
