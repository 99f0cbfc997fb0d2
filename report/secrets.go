package report

import (
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const removed = "(removed)"

// hider takes secrets out of texts: by their looks, and those of this host by what its
// files have.
type hider struct {
	looks   []look
	private *regexp.Regexp // a key in one of causeway's own files
	known   []string
}

type look struct {
	what *regexp.Regexp
	with string
}

func newHider(dataDir string) (*hider, error) {
	h := &hider{private: regexp.MustCompile(`"(?:private|other)": *"([^"]+)"`), looks: []look{
		{regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(-----END [A-Z ]*PRIVATE KEY-----)?`), removed},
		{regexp.MustCompile(`\bcw1-[A-Za-z0-9_-]+`), "cw1-" + removed},
		{regexp.MustCompile(`\bSWMTKN-[A-Za-z0-9-]+`), "SWMTKN-" + removed},
		{regexp.MustCompile(`://[^/\s"@]+@`), "://" + removed + "@"},
		{regexp.MustCompile(`(?i)((?:password|passwd|secret|private[ _-]?key)"?[ ]*[:=][ ]*)("[^"]*"|[^\s",]+)`), "${1}" + removed},
		{regexp.MustCompile(`(--store-password[= ])\S+`), "${1}" + removed},
	}}
	err := filepath.WalkDir(dataDir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it may be going on
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "etcd":
			return fs.SkipDir // the records
		case !entry.Type().IsRegular():
			return nil
		}
		return h.learn(path)
	})
	return h, err
}

// learn takes the secrets of one file.
func (h *hider) learn(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, key := range h.private.FindAllSubmatch(text, -1) {
		h.known = append(h.known, string(key[1]))
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.Contains(block.Type, "PRIVATE KEY") {
			continue
		}
		lines := strings.Split(string(pem.EncodeToMemory(block)), "\n")
		for _, line := range lines[1:] {
			if line != "" && !strings.HasPrefix(line, "-----") {
				h.known = append(h.known, line)
			}
		}
	}
	return nil
}

// hide gives text without secrets.
func (h *hider) hide(text string) string {
	for _, look := range h.looks {
		text = look.what.ReplaceAllString(text, look.with)
	}
	for _, secret := range h.known {
		text = strings.ReplaceAll(text, secret, removed)
	}
	return text
}
