// Package report collects what a maintainer needs to find a fault that is somebody
// else's: one archive, without secrets.
//
// Its path: each [item] is asked in turn, with a deadline (report.go, kernel.go); what it
// gives passes the [hider] (secrets.go) and becomes a file of the archive. What cannot be
// read is named in the file "missing": a report of a host whose agent, store or engine is
// down has the rest.
package report

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/causeway-net/causeway/agent"
)

// patience is how long one item may take.
const patience = 15 * time.Second

// Config is where things are on this host.
type Config struct {
	Version string
	Agent   *agent.Client
	// DataDir is causeway's folder, Docker the engine's socket.
	DataDir, Docker string
}

// item is one file of the archive.
type item struct {
	name string
	read func(context.Context) (string, error)
}

// Write writes the archive, and says what is missing in it.
func Write(ctx context.Context, w io.Writer, config Config) (missing []string, err error) {
	hider, err := newHider(config.DataDir)
	if err != nil { // what is not known cannot be left out
		return nil, fmt.Errorf("read the keys that must not be in the report: %w", err)
	}
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	add := func(name, text string) error {
		text = hider.hide(text)
		return errors.Join(archive.WriteHeader(&tar.Header{
			Name: "causeway-report/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now(),
		}), writeText(archive, text))
	}
	for _, item := range append(config.items(), kernelItems()...) {
		text, err := item.limited(ctx)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", item.name, err))
		}
		if text == "" {
			continue
		}
		if err := add(item.name, text); err != nil {
			return missing, err
		}
	}
	for i := range missing {
		missing[i] = hider.hide(missing[i])
	}
	return missing, errors.Join(add("missing", strings.Join(append(missing, ""), "\n")), archive.Close(), packed.Close(), ctx.Err())
}

func writeText(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

func (i item) limited(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return i.read(ctx)
}

// items are those that causeway and the engine tell.
func (c Config) items() []item {
	return []item{
		{"version", func(context.Context) (string, error) {
			return fmt.Sprintf("causeway %s, reported at %s\n", c.Version, time.Now().UTC().Format(time.RFC3339)), nil
		}},
		{"status.json", func(ctx context.Context) (string, error) { return asJSON(c.Agent.Status(ctx)) }},
		{"doctor.json", func(ctx context.Context) (string, error) { return asJSON(c.Agent.Doctor(ctx, agent.Whom{})) }},
		{"records.jsonl", func(ctx context.Context) (string, error) { return streamed(ctx, c.Agent.Records) }},
		{"own-records.json", func(context.Context) (string, error) { return file(filepath.Join(c.DataDir, "records.json")) }},
		{"log", c.log},
		{"docker/version.json", c.docker("/version")},
		{"docker/info.json", c.docker("/info")},
		{"docker/networks.json", c.docker("/networks")},
		{"docker/plugins.json", c.docker("/plugins")},
	}
}

func asJSON[T any](value T, err error) (string, error) {
	if err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(value, "", "  ")
	return string(text), err
}

func streamed(ctx context.Context, write func(context.Context, io.Writer) error) (string, error) {
	var text strings.Builder
	err := write(ctx, &text)
	return text.String(), err
}

func file(path string) (string, error) {
	text, err := os.ReadFile(path)
	return string(text), err
}

// log is the agent's own or, where that is down, what the journal has of it.
func (c Config) log(ctx context.Context) (string, error) {
	text, err := streamed(ctx, c.Agent.RecentLog)
	if err == nil {
		return text, nil
	}
	text, other := run("journalctl --no-pager -n 2000 -u causeway")(ctx)
	if other != nil {
		return text, errors.Join(err, other)
	}
	return text, nil
}

// docker asks the engine's API.
func (c Config) docker(path string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Docker)
		}}}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
		if err != nil {
			return "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err == nil && response.StatusCode != http.StatusOK {
			err = fmt.Errorf("docker answers %s", response.Status)
		}
		return string(text), err
	}
}
