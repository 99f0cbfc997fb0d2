package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// pkg is a Debian package of one release.
type pkg struct{ name, suite string }

// enginePackages lists the packages of each version. The newer ones ask for no
// newer C library than bookworm's, and its runc serves all. Libraries that a
// small Debian lacks come along.
func enginePackages() map[string][]pkg {
	const runc = "bookworm"
	return map[string][]pkg{
		"20.10": {{"docker.io", "bookworm"}, {"containerd", "bookworm"}, {"runc", runc}, {"libdevmapper1.02.1", "bookworm"}},
		"26.1":  {{"docker.io", "trixie"}, {"docker-cli", "trixie"}, {"containerd", "trixie"}, {"runc", runc}},
		"28.5":  {{"docker.io", "forky"}, {"docker-cli", "forky"}, {"containerd", "forky"}, {"runc", runc}},
	}
}

// Engines are the versions of Docker that a lab can run.
func Engines() []string { return slices.Sorted(maps.Keys(enginePackages())) }

// cacheDir is where packages are kept unpacked between labs.
func cacheDir() string { return cmp.Or(os.Getenv("CAUSEWAY_LAB_CACHE"), "/var/cache/causeway-lab") }

func composeDir() string { return filepath.Join(cacheDir(), "compose") }

func wireguardDir() string { return filepath.Join(cacheDir(), "wireguard") }

func prometheusDir() string { return filepath.Join(cacheDir(), "prometheus") }

func engineDir(version string) string { return filepath.Join(cacheDir(), "engines", version) }

// programPath has the programs of packages found that were unpacked to roots.
func programPath(roots []string) string {
	var dirs []string
	for _, root := range roots {
		for _, dir := range []string{"usr/sbin", "usr/bin", "usr/lib/openvswitch-switch"} {
			dirs = append(dirs, filepath.Join(root, dir))
		}
	}
	return strings.Join(dirs, ":")
}

// libraryPath has those programs find the libraries beside them.
func libraryPath(roots []string) string {
	var dirs []string
	for _, root := range roots {
		for _, pattern := range []string{"lib/*-linux-gnu*", "usr/lib/*-linux-gnu*"} {
			// The pattern is well-formed: there is no error.
			found, _ := filepath.Glob(filepath.Join(root, pattern))
			dirs = append(dirs, found...)
		}
	}
	return strings.Join(dirs, ":")
}

// checkCache refuses a cache where the machines would not see it.
func checkCache() error {
	for _, hidden := range []string{"/run/", "/var/lib/", "/sys/", "/etc/"} {
		if strings.HasPrefix(cacheDir()+"/", hidden) {
			return fmt.Errorf("cache %s: each machine has a %s of its own and would not see it", cacheDir(), hidden)
		}
	}
	return nil
}

// Fetch makes sure that the cache holds all that a lab with these options needs.
func Fetch(ctx context.Context, o Options) error {
	o = o.withDefaults()
	if err := checkCache(); err != nil {
		return err
	}
	for _, version := range slices.Compact(slices.Sorted(slices.Values(o.engines()))) {
		check := func(dir string) error { return checkVersion(ctx, dir, "usr/sbin/dockerd", version) }
		if err := unpacked(ctx, o.Log, engineDir(version), enginePackages()[version], check); err != nil {
			return fmt.Errorf("engine %s: %w", version, err)
		}
	}
	if o.Store == StoreEtcd {
		check := func(dir string) error { return checkVersion(ctx, dir, "usr/bin/etcd", "") }
		if err := unpacked(ctx, o.Log, etcdDir(), []pkg{{"etcd-server", "bookworm"}}, check); err != nil {
			return fmt.Errorf("etcd: %w", err)
		}
	}
	if o.Compose {
		check := func(dir string) error { return checkVersion(ctx, dir, "usr/bin/docker-compose", "") }
		if err := unpacked(ctx, o.Log, composeDir(), []pkg{{"docker-compose", "forky"}}, check); err != nil {
			return fmt.Errorf("docker-compose: %w", err)
		}
	}
	if o.Plugin {
		if err := fetchForPlugin(ctx, o.Log); err != nil {
			return fmt.Errorf("plugin: %w", err)
		}
	}
	if o.WireGuard {
		check := func(dir string) error { return checkVersion(ctx, dir, "usr/bin/wireguard-go", "") }
		if err := unpacked(ctx, o.Log, wireguardDir(), []pkg{{"wireguard-go", "bookworm"}, {"wireguard-tools", "bookworm"}}, check); err != nil {
			return fmt.Errorf("wireguard: %w", err)
		}
	}
	if o.OVS {
		check := func(dir string) error { return checkVersion(ctx, dir, "usr/lib/openvswitch-switch/ovs-vswitchd", "") }
		if err := unpacked(ctx, o.Log, ovsDir(), ovsPackages(), check); err != nil {
			return fmt.Errorf("openvswitch: %w", err)
		}
	}
	return nil
}

// Tools fetches Open vSwitch, etcd and promtool, and gives the variables that have them found.
func Tools(ctx context.Context, log io.Writer) (map[string]string, error) {
	if err := Fetch(ctx, Options{Hosts: 1, OVS: true, Store: StoreEtcd, Log: log}); err != nil {
		return nil, err
	}
	check := func(dir string) error { return checkVersion(ctx, dir, "usr/bin/promtool", "") }
	if err := unpacked(ctx, log, prometheusDir(), []pkg{{"prometheus", "bookworm"}}, check); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	roots := []string{ovsDir(), etcdDir(), prometheusDir()}
	return map[string]string{
		"PATH":            programPath(roots) + ":" + os.Getenv("PATH"),
		"LD_LIBRARY_PATH": libraryPath(roots),
		"OVS_PKGDATADIR":  filepath.Join(ovsDir(), "usr/share/openvswitch"),
	}, nil
}

// checkVersion: a release that is not final may have moved on to another version.
func checkVersion(ctx context.Context, root, program, version string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(root, program), "--version")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+libraryPath([]string{root}))
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s --version: %w: %s", filepath.Base(program), err, strings.TrimSpace(string(output)))
	}
	if !strings.Contains(string(output), version) {
		return fmt.Errorf("the package is another version now: %s", strings.TrimSpace(string(output)))
	}
	return nil
}

// unpacked fills dir with packages, unless it is there.
func unpacked(ctx context.Context, log io.Writer, dir string, packages []pkg, check func(dir string) error) error {
	return once(log, dir, func(work, root string) error {
		if err := fetchPackages(ctx, packages, work, root); err != nil {
			return err
		}
		return check(root)
	})
}

// once has fill make the folder dir, as root, unless it is there. It appears as a
// whole or not at all, and of several processes one works while the others wait.
func once(log io.Writer, dir string, fill func(work, root string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	unlock, err := lockFile(filepath.Join(cacheDir(), "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	fmt.Fprintf(log, "fetching %s (once)\n", dir)
	work, err := os.MkdirTemp(cacheDir(), ".fetch-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := fill(work, root); err != nil {
		return err
	}
	return os.Rename(root, dir)
}

// lockFile waits until no other process has the lock.
func lockFile(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = file.Close() }, nil
}

// install copies a program to where a machine runs it, also while an older
// copy runs.
func install(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	// A process that is forked while the file is open for writing keeps it so
	// until its exec, and nobody can run it meanwhile (ETXTBSY).
	syscall.ForkLock.RLock()
	err = os.WriteFile(to+".new", text, 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}
