package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// fetchPackages downloads packages, of any release, and unpacks them below root.
// Nothing is installed: apt works on lists of its own in the folder work.
func fetchPackages(ctx context.Context, packages []pkg, work, root string) error {
	names, suites := make([]string, 0, len(packages)), []string(nil)
	for _, p := range packages {
		names = append(names, p.name+"/"+p.suite)
		suites = append(suites, p.suite)
	}
	slices.Sort(suites)
	if err := writeSources(ctx, slices.Compact(suites), filepath.Join(work, "sources")); err != nil {
		return err
	}
	debs := filepath.Join(work, "debs")
	for _, dir := range []string{debs, filepath.Join(work, "lists/partial"), filepath.Join(work, "archives/partial")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := apt(ctx, work, debs, "update"); err != nil {
		return err
	}
	if err := apt(ctx, work, debs, append([]string{"download"}, names...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if output, err := exec.CommandContext(ctx, "dpkg", "-x", file, root).CombinedOutput(); err != nil {
			return fmt.Errorf("dpkg -x %s: %w: %s", filepath.Base(file), err, output)
		}
	}
	return nil
}

func apt(ctx context.Context, work, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{
		"-q",
		"-o", "Dir::Etc::sourcelist=/dev/null",
		"-o", "Dir::Etc::sourceparts=" + filepath.Join(work, "sources"),
		"-o", "Dir::State::lists=" + filepath.Join(work, "lists"),
		"-o", "Dir::State::status=/dev/null",
		"-o", "Dir::Cache=" + work,
		"-o", "APT::Sandbox::User=root",
		"-o", "APT::Update::Error-Mode=any",
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
	}, args...)...)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(output)))
	}
	return nil
}

// writeSources fills dir with an apt source for other releases: the archive that
// the machine has its own release from, checked by the keys that apt trusts.
func writeSources(ctx context.Context, suites []string, dir string) error {
	from, err := archive(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var lines strings.Builder
	for _, suite := range suites {
		fmt.Fprintf(&lines, "deb %s %s main\n", from, suite)
	}
	return os.WriteFile(filepath.Join(dir, "lab.list"), []byte(lines.String()), 0o644)
}

func ownCodename() (string, error) {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); found {
			return strings.Trim(name, `"`), nil
		}
	}
	return "", errors.New("/etc/os-release names no VERSION_CODENAME: the lab needs Debian")
}

// archive is the address of the machine's own Debian archive.
func archive(ctx context.Context) (string, error) {
	codename, err := ownCodename()
	if err != nil {
		return "", err
	}
	output, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--no-release-info",
		"--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == codename && fields[1] == "main" {
			return fields[2], nil
		}
	}
	return "", fmt.Errorf("this machine has no apt source for main of Debian %s", codename)
}
