package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// RegistryAddr is where each host of a lab with the plugin finds the registry.
// Engines take one on the loopback without TLS.
const RegistryAddr = "127.0.0.1:5000"

func registryDir() string { return filepath.Join(cacheDir(), "registry") }

// addRegistry gives the host a registry. Those of all hosts are one: they share
// the folder of the first.
func (h *Host) addRegistry() {
	const file = "/etc/docker/registry.yml"
	h.Registry = &Daemon{
		machine: h.Machine, name: "registry",
		prepare: func(context.Context) error {
			storage := h.lab.hosts[0].Path("/var/lib/registry")
			if err := os.MkdirAll(storage, 0o755); err != nil {
				return err
			}
			config := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", storage, RegistryAddr)
			if err := os.MkdirAll(h.Path(filepath.Dir(file)), 0o755); err != nil {
				return err
			}
			return os.WriteFile(h.Path(file), []byte(config), 0o644)
		},
		argv: func() []string {
			return []string{filepath.Join(registryDir(), "usr/bin/docker-registry"), "serve", file}
		},
		ready: func(ctx context.Context) error {
			_, err := h.Run(ctx, "busybox", "wget", "-q", "-O", "-", "http://"+RegistryAddr+"/v2/")
			return err
		},
	}
}

// fetchForPlugin makes sure of the registry, and of the base image that the
// Dockerfile begins with.
func fetchForPlugin(ctx context.Context, log io.Writer) error {
	check := func(dir string) error { return checkVersion(ctx, dir, "usr/bin/docker-registry", "") }
	if err := unpacked(ctx, log, registryDir(), []pkg{{"docker-registry", "trixie"}}, check); err != nil {
		return err
	}
	return once(log, baseDir(), func(work, root string) error { return makeBase(ctx, work, root) })
}

func baseDir() string { return filepath.Join(cacheDir(), "base") }

// The image that the Dockerfile begins with, and what its first step would
// install from the net.
const (
	baseImage    = "debian:bookworm-slim"
	baseRelease  = "bookworm"
	basePackages = "openvswitch-switch,iptables"
)

// makeBase writes root/base.tar, from where the machine gets its own packages.
func makeBase(ctx context.Context, work, root string) error {
	from, err := archive(ctx)
	if err != nil {
		return err
	}
	tree := filepath.Join(work, "tree")
	for _, argv := range [][]string{
		{"debootstrap", "--variant=minbase", "--include=" + basePackages, baseRelease, tree, from},
		{"sh", "-ec", `cd "$0"; rm -rf var/cache/apt/archives/*.deb var/lib/apt/lists/* usr/share/doc usr/share/locale usr/share/man`, tree},
		{"tar", "-C", tree, "-cf", filepath.Join(root, "base.tar"), "."},
	} {
		if output, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
			lines := strings.Split(strings.TrimSpace(string(output)), "\n")
			return fmt.Errorf("%s: %w: %s", argv[0], err, strings.Join(lines[max(0, len(lines)-5):], "\n"))
		}
	}
	return nil
}
