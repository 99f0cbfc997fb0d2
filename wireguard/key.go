package wireguard

import (
	"fmt"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/internal/statefile"
)

// file is what --data-dir keeps.
type file struct {
	// Private is the key as wg(8) has it.
	Private string `json:"private"`
}

// readKey reads the key at path, or makes one.
func readKey(path string) (wgtypes.Key, error) {
	kept, err := statefile.Read[file](path)
	if err != nil {
		return wgtypes.Key{}, fmt.Errorf("this host's key: %w", err)
	}
	if kept.Private != "" {
		key, err := wgtypes.ParseKey(kept.Private)
		if err != nil {
			err = fmt.Errorf("this host's key: %s is damaged: %w", path, err)
		}
		return key, err
	}
	key, err := wgtypes.GeneratePrivateKey()
	if err == nil {
		err = statefile.Write(path, file{key.String()})
	}
	if err != nil {
		err = fmt.Errorf("make this host's key: %w", err)
	}
	return key, err
}
