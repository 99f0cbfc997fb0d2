package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	runRoot  = "/run/causeway-lab"     // state and logs
	dataRoot = "/var/lib/causeway-lab" // the machines' /var/lib, on a real disk
)

// state is what another process needs to use a lab or to take it down.
type state struct {
	Options  Options            `json:"options"`
	Machines map[string]*record `json:"machines"`
	// Token is the one that the hosts after the first join with.
	Token string `json:"token,omitempty"`
}

// record is what became of a machine's spec.
type record struct {
	Keeper process `json:"keeper"`
	// Mount and Net name its namespaces as /proc/PID/ns does: mnt:[4026532180].
	Mount   string             `json:"mount"`
	Net     string             `json:"net"`
	Daemons map[string]process `json:"daemons"`
}

func runDir(name string) string  { return filepath.Join(runRoot, name) }
func dataDir(name string) string { return filepath.Join(dataRoot, name) }

// save writes the state as a whole; the caller holds the lab's lock.
func (s *state) save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(runDir(s.Options.Name), "state.json")
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// load reads the state of a lab; [ErrNotUp] if there is none.
func load(name string) (*state, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("%q is not the name of a lab", name)
	}
	text, err := os.ReadFile(filepath.Join(runDir(name), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", name, err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("lab %s: state file: %w", name, err)
	}
	return &s, nil
}
