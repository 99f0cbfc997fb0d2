package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDebianPackage builds the package, installs it below a root of its own, and removes it.
func TestDebianPackage(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: dpkg installs as root alone")
	}
	root, file := t.TempDir(), filepath.Join(t.TempDir(), "causeway.deb")
	must := func(argv ...string) string {
		t.Helper()
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
		}
		return string(out)
	}
	must("../deb/build", binary(t, "causeway"), "v0.1-3-gabc", file)
	if version := strings.TrimSpace(must("dpkg-deb", "-f", file, "Version")); version != "0.1.3.gabc" {
		t.Errorf("its version is %s", version)
	}
	for _, folder := range []string{"updates", "info", "triggers"} {
		if err := os.MkdirAll(filepath.Join(root, "var/lib/dpkg", folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg", list), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dpkg := []string{"dpkg", "--root=" + root, "--force-script-chrootless", "--log=/dev/null"}
	must(append(dpkg, "-i", file)...)
	at := func(path string) string { return filepath.Join(root, path) }

	if out := must(at("usr/bin/causeway"), "version"); !strings.HasPrefix(out, "causeway ") {
		t.Errorf("it says %s", out)
	}
	if unit, err := os.ReadFile(at("usr/lib/systemd/system/causeway.service")); err != nil || !strings.Contains(string(unit), "\nExecStart=/usr/bin/causeway serve\n") {
		t.Errorf("the unit: %v\n%s", err, unit)
	}
	for _, page := range []string{"causeway", "causeway-serve", "causeway-report", "causeway-hosts-rm"} {
		if out := must("gzip", "-dc", at("usr/share/man/man8/"+page+".8.gz")); !strings.Contains(out, ".SH SYNOPSIS") && !strings.Contains(out, ".SH NAME") {
			t.Errorf("the page %s is\n%.300s", page, out)
		}
	}
	completed := must("bash", "-c", `. "$1" && type __start_causeway >/dev/null && "$2" __complete hosts r`, "bash",
		at("usr/share/bash-completion/completions/causeway"), at("usr/bin/causeway"))
	if !strings.HasPrefix(completed, "rm\t") {
		t.Errorf("hosts r is completed by %s", completed)
	}
	for path, want := range map[string]string{
		"usr/share/zsh/vendor-completions/_causeway": "#compdef causeway", "usr/share/fish/vendor_completions.d/causeway.fish": "complete -c causeway",
	} {
		if text, err := os.ReadFile(at(path)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v\n%.200s", path, err, text)
		}
	}
	if info, err := os.Stat(at("etc/default/causeway")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the settings, which may have a token, are %v, %v", info, err)
	}

	must(append(dpkg, "-P", "causeway")...)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && !strings.HasPrefix(path, at("var/lib/dpkg")) {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
