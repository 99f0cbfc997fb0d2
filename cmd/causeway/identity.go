package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/causeway-net/causeway/internal/statefile"
)

// identity is which host this is and which store it belongs to. It is kept in
// --data-dir, so that neither is guessed from what can change: a host's name, or
// what answers at an address.
type identity struct {
	identityFile
	path string
	// name is what users know the host by.
	name string

	mu   sync.Mutex // guards Store and kept
	kept bool       // the file has Host
}

type identityFile struct {
	// Host is the host's key in the records: the name that it was accepted under
	// first. A name that another host has can be changed until then.
	Host string `json:"host,omitempty"`
	// Store is the ID of the store; empty until one has answered.
	Store string `json:"store,omitempty"`
}

// readIdentity reads what is kept in --data-dir. A host without an identity gets
// its name as its key.
func readIdentity(s settings) (*identity, error) {
	name, err := hostName(s)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dataDir, "identity.json")
	file, err := statefile.Read[identityFile](path)
	if err != nil {
		return nil, fmt.Errorf("this host's identity: %w", err)
	}
	i := &identity{identityFile: file, path: path, name: name, kept: file.Host != ""}
	if !i.kept {
		i.Host = name
	}
	return i, nil
}

// keepStore notes the store that this host belongs to from now on.
func (i *identity) keepStore(id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.Store = id
	return i.write()
}

// keepHost notes that the cluster has accepted this host under its key.
func (i *identity) keepHost() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.kept {
		return nil
	}
	i.kept = true
	return i.write()
}

func (i *identity) write() error {
	file := i.identityFile
	if !i.kept {
		file.Host = ""
	}
	if err := statefile.Write(i.path, file); err != nil {
		return fmt.Errorf("keep this host's identity: %w", err)
	}
	return nil
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
