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
	if err := writeSources(slices.Compact(suites), filepath.Join(work, "sources")); err != nil {
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

// writeSources fills dir with apt sources for other releases, from where the
// machine gets its own.
func writeSources(suites []string, dir string) error {
	codename, err := ownCodename()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var lines, stanzas []string
	files, err := filepath.Glob("/etc/apt/sources.list.d/*")
	if err != nil {
		return err
	}
	for _, file := range append(files, "/etc/apt/sources.list") {
		text, err := os.ReadFile(file)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case strings.HasSuffix(file, ".sources"):
			stanzas = append(stanzas, deriveStanzas(string(text), codename, suites)...)
		case strings.HasSuffix(file, ".list"):
			lines = append(lines, deriveLines(string(text), codename, suites)...)
		}
	}
	if len(lines)+len(stanzas) == 0 {
		return fmt.Errorf("this machine has no apt source for main of Debian %s", codename)
	}
	if err := os.WriteFile(filepath.Join(dir, "lab.list"), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "lab.sources"), []byte(strings.Join(stanzas, "\n")), 0o644)
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

// deriveLines: one-line sources, sources.list(5). The update and security
// archives of a release are left alone: not every release has them.
func deriveLines(text, codename string, suites []string) []string {
	var derived []string
	for line := range strings.Lines(text) {
		options := ""
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "deb" {
			continue
		}
		if open, end := strings.Index(line, "["), strings.Index(line, "]"); open >= 0 && end > open {
			options = line[open:end+1] + " "
			fields = append(fields[:1], strings.Fields(line[end+1:])...)
		}
		if len(fields) < 4 || fields[2] != codename || !slices.Contains(fields[3:], "main") {
			continue
		}
		for _, suite := range suites {
			derived = append(derived, fmt.Sprintf("deb %s%s %s main", options, fields[1], suite))
		}
	}
	return derived
}

// deriveStanzas: deb822 sources, sources.list(5). What is not replaced, such as
// Signed-By with a whole key in it, is kept as it stands.
func deriveStanzas(text, codename string, suites []string) []string {
	var derived []string
	for stanza := range strings.SplitSeq(text, "\n\n") {
		kept, fields := splitStanza(stanza)
		if !slices.Contains(strings.Fields(fields["types"]), "deb") ||
			!slices.Contains(strings.Fields(fields["suites"]), codename) ||
			!slices.Contains(strings.Fields(fields["components"]), "main") ||
			strings.EqualFold(fields["enabled"], "no") {
			continue
		}
		derived = append(derived, fmt.Sprintf("Types: deb\nSuites: %s\nComponents: main\n%s\n", strings.Join(suites, " "), kept))
	}
	return derived
}

// splitStanza gives the lines that stay, and the one-line values of all fields
// by their names in lower case.
func splitStanza(stanza string) (kept string, fields map[string]string) {
	fields = make(map[string]string)
	keep := false
	for line := range strings.Lines(stanza) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		if name, value, found := strings.Cut(line, ":"); found && !strings.HasPrefix(line, " ") {
			name = strings.ToLower(name)
			fields[name] = strings.TrimSpace(value)
			keep = !slices.Contains([]string{"types", "suites", "components", "enabled"}, name)
		}
		if keep {
			kept += line
		}
	}
	return kept, fields
}
