package lab

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The managed plugin as the registry has it, and the tag that a lab begins with.
const (
	PluginRepository = RegistryAddr + "/causeway"
	PluginTag        = "0.1"
)

// installPlugin builds the plugin on h1, as a user would, pushes it to the
// registry and installs it from there on every host, h1 first: it may hold the store.
func (l *Lab) installPlugin(ctx context.Context) error {
	o := l.state.Options
	fmt.Fprintf(o.Log, "building the plugin %s:%s\n", PluginRepository, PluginTag)
	if err := l.hosts[0].importBase(ctx); err != nil {
		return err
	}
	if err := l.PushPlugin(ctx, o.Causeway, PluginTag); err != nil || o.NoCauseway {
		return err
	}
	for i, h := range l.hosts {
		if err := h.installPlugin(ctx); err != nil {
			return err
		}
		if i > 0 || !l.state.Options.tokens() {
			continue
		}
		if err := l.takeToken(ctx); err != nil {
			return err
		}
	}
	return nil
}

// PushPlugin builds the plugin from a binary, on h1 with the project's Makefile,
// and pushes it under a tag.
func (l *Lab) PushPlugin(ctx context.Context, binary, tag string) error {
	h := l.hosts[0]
	source := cmp.Or(l.state.Options.Source, ".")
	work, err := os.MkdirTemp("", "causeway-plugin")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	files := map[string]string{binary: "bin/causeway"}
	for _, name := range []string{"Makefile", "Dockerfile", ".dockerignore", "plugin-config.json"} {
		files[filepath.Join(source, name)] = name
	}
	for from, to := range files {
		if err := install(from, filepath.Join(work, to)); err != nil {
			return err
		}
	}
	for _, argv := range [][]string{
		{"make", "-C", work, "plugin-push", "REGISTRY=" + PluginRepository, "TAG=" + tag, "BUILT=1"},
		{"docker", "plugin", "rm", PluginRepository + ":" + tag},
	} {
		if _, err := h.Run(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) importBase(ctx context.Context) error {
	tar, err := os.Open(filepath.Join(baseDir(), "base.tar"))
	if err != nil {
		return err
	}
	defer func() { _ = tar.Close() }()
	_, err = h.feed(ctx, tar, "docker", "import", "-", baseImage)
	return err
}

func (h *Host) installPlugin(ctx context.Context) error {
	// For causeway status and the like.
	if err := install(h.lab.state.Options.Causeway, h.Path(filepath.Join(binDir, "causeway"))); err != nil {
		return err
	}
	argv := []string{"docker", "plugin", "install", "--grant-all-permissions", PluginRepository + ":" + PluginTag}
	_, err := h.Run(ctx, append(argv, pluginSettings(causewayArgv(h.lab.state.Options, h.spec, h.lab.state.Token)[2:])...)...)
	return err
}

// pluginSettings turns flags into what "docker plugin install" takes:
// --host-name h1 is CAUSEWAY_HOST_NAME=h1.
func pluginSettings(flags []string) []string {
	var settings []string
	for i := 0; i < len(flags); i++ {
		name, value, joined := strings.Cut(flags[i], "=")
		if !joined && i+1 < len(flags) {
			i++
			value = flags[i]
		}
		name = strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(name, "--"), "-", "_"))
		settings = append(settings, "CAUSEWAY_"+name+"="+value)
	}
	return settings
}
