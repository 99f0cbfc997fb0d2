package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/causeway-net/causeway/internal/statefile"
)

// identity is which host this is and which store it belongs to. It is kept in
// --data-dir, so that neither is guessed from what can change: a host's name, or
// what answers at an address.
type identity struct {
	// Host is the host's key in the records: the name that it had first.
	Host string `json:"host"`
	// Store is the ID of the store; empty until one has answered.
	Store string `json:"store,omitempty"`

	path string
	// name is what users know the host by.
	name string
}

// readIdentity reads what is kept in --data-dir. A host without an identity gets
// its name as its key.
func readIdentity(s settings) (*identity, error) {
	name, err := hostName(s)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dataDir, "identity.json")
	kept, err := statefile.Read[identity](path)
	if err != nil {
		return nil, fmt.Errorf("this host's identity: %w", err)
	}
	kept.path, kept.name = path, name
	if kept.Host != "" {
		return &kept, nil
	}
	kept.Host = name
	return &kept, kept.write()
}

func (i *identity) write() error {
	if err := statefile.Write(i.path, i); err != nil {
		return fmt.Errorf("keep this host's identity: %w", err)
	}
	return nil
}

// keepStore notes the store that this host belongs to from now on.
func (i *identity) keepStore(id string) error {
	i.Store = id
	return i.write()
}

// hostName is the name that users know this host by.
func hostName(s settings) (string, error) {
	name := s.hostName
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("host name: %w", err)
		}
	}
	if strings.ContainsAny(name, "/ \t\n") {
		return "", fmt.Errorf("host name %q must have no slash and no blank", name)
	}
	return name, nil
}
