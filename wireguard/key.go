package wireguard

import (
	"fmt"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/statefile"
)

// file is what --data-dir keeps; keys are as wg(8) has them.
type file struct {
	Private string `json:"private"`
	// Slot is the number of the device that has it.
	Slot int `json:"slot,omitempty"`
	// Made is when the key was made, or seen first by a version that notes it.
	Made time.Time `json:"made,omitzero"`
	// Other is the next key or, once Switched, the last one.
	Other    string `json:"other,omitempty"`
	Switched bool   `json:"switched,omitempty"`
	// Past is the address of the key that went last.
	Past netip.Addr `json:"past,omitzero"`
}

// keyring has this host's key, and what there is of another while it is rotated: the next
// one is offered to the other hosts, then the two change places, and then the last one
// goes. Of the two devices one has the key, and the other one the other.
type keyring struct {
	current wgtypes.Key
	slot    int
	made    time.Time
	other   wgtypes.Key // the zero Key: none
	// switched says that other is the last key, and not the next one.
	switched bool
	// past is the address of the key that went last, which stays sealed until there is
	// another in its place: a tunnel that could not be moved from it sends nothing.
	past netip.Addr
}

// readKeys reads what is kept at path, or makes a key.
func readKeys(path string, now time.Time) (keyring, error) {
	kept, err := statefile.Read[file](path)
	if err != nil {
		return keyring{}, fmt.Errorf("this host's key: %w", err)
	}
	if kept.Private != "" && !kept.Made.IsZero() {
		return parseKeys(path, kept)
	}
	ring := keyring{made: now}
	if kept.Private != "" {
		if ring, err = parseKeys(path, kept); err != nil {
			return keyring{}, err
		}
		ring.made = now
	} else if ring.current, err = wgtypes.GeneratePrivateKey(); err != nil {
		return keyring{}, fmt.Errorf("make this host's key: %w", err)
	}
	return ring, ring.write(path)
}

func parseKeys(path string, kept file) (ring keyring, err error) {
	ring = keyring{slot: kept.Slot & 1, made: kept.Made, switched: kept.Switched, past: kept.Past}
	ring.current, err = wgtypes.ParseKey(kept.Private)
	if err == nil && kept.Other != "" {
		ring.other, err = wgtypes.ParseKey(kept.Other)
	}
	if err != nil {
		return keyring{}, fmt.Errorf("this host's key: %s is damaged: %w", path, err)
	}
	return ring, nil
}

func (k keyring) write(path string) error {
	kept := file{Private: k.current.String(), Slot: k.slot, Made: k.made, Switched: k.switched, Past: k.past}
	if k.rotates() {
		kept.Other = k.other.String()
	}
	if err := statefile.Write(path, kept); err != nil {
		return fmt.Errorf("keep this host's key: %w", err)
	}
	return nil
}

// rotates says that there is another key.
func (k keyring) rotates() bool { return k.other != (wgtypes.Key{}) }

// offer begins a rotation.
func (k keyring) offer(next wgtypes.Key) keyring {
	k.other, k.switched, k.past = next, false, netip.Addr{}
	return k
}

// takeUp has the next key be the one in use.
func (k keyring) takeUp(now time.Time) keyring {
	k.current, k.other = k.other, k.current
	k.slot, k.made, k.switched = 1-k.slot, now, true
	return k
}

// retire ends a rotation.
func (k keyring) retire() keyring {
	k.past, k.other, k.switched = addrOf(k.other), wgtypes.Key{}, false
	return k
}

// addrOf is the address of the device that has the key.
func addrOf(private wgtypes.Key) netip.Addr { return endOf(private, 0).Addr() }

func endOf(private wgtypes.Key, port uint16) fabric.WireGuard {
	return fabric.WireGuard{Key: private.PublicKey().String(), Port: port}
}

// due is when a key that was made at a time has its age: spread over a quarter of it, by
// the key, so that hosts that began together do not rotate together.
func (k keyring) due(age time.Duration) time.Time {
	public := k.current.PublicKey()
	const parts = 1 << 16
	part := time.Duration(public[0])<<8 | time.Duration(public[1])
	return k.made.Add(age - age/4/parts*part)
}
