package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// nics are the parents of this host's underlay networks that carry nothing.
func nics(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	parents := make(map[string][]string) // the names of their networks
	untagged := make(map[string]bool)    // those that are ports of a bridge themselves
	for _, segment := range segments {
		if n := segment.Network; n.Mode == fabric.ModeUnderlay && n.Parent != "" {
			parents[n.Parent] = append(parents[n.Parent], n.Label())
			untagged[n.Parent] = untagged[n.Parent] || n.VLAN == 0
		}
	}
	if len(parents) == 0 {
		return nil, nil
	}
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	var found []Finding
	for _, parent := range slices.Sorted(maps.Keys(parents)) {
		link, err := host.Link(parent)
		if err != nil && !errors.Is(err, nl.ErrNotFound) {
			return found, err
		}
		cause := ""
		switch {
		case err != nil:
			cause = fmt.Sprintf("The NIC %s is gone: its containers reach nobody outside this host.", parent)
		case link.Attrs().RawFlags&unix.IFF_UP == 0:
			cause = fmt.Sprintf("The NIC %s is down: its containers reach nobody outside this host.", parent)
		case link.Attrs().RawFlags&unix.IFF_LOWER_UP == 0:
			cause = fmt.Sprintf("The NIC %s has no carrier: its containers reach nobody outside this host.", parent)
		case untagged[parent]:
			if cause, err = takenNIC(in.RunDir, link); err != nil {
				return found, err
			}
		}
		if cause == "" {
			continue
		}
		found = append(found, Finding{
			Severity: Problem, Scope: thisHost, Cause: cause,
			Evidence: fmt.Sprintf("network %s has it as its parent (ip link show %s)", few(parents[parent]), parent),
			Remedy:   fmt.Sprintf("Set it up (ip link set %[1]s up), and see to its cable. Keep what else manages it away: nmcli device set %[1]s managed no; for systemd-networkd KeepMaster=yes in its .network file.", parent),
		})
	}
	return found, nil
}

// takenNIC says that NetworkManager has taken a NIC out of its bridge; empty: it has not. Its
// state of a device is a file (NetworkManager 1.4 and newer).
func takenNIC(runDir string, nic netlink.Link) (string, error) {
	if nic.Attrs().MasterIndex != 0 {
		return "", nil
	}
	state, err := os.ReadFile(filepath.Join(runDir, "NetworkManager/devices", strconv.Itoa(nic.Attrs().Index)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if !slices.Contains(strings.Split(string(state), "\n"), "managed=true") {
		return "", nil // the check of the planes tells
	}
	return fmt.Sprintf("NetworkManager has taken the NIC %s out of its bridge: its containers reach nobody outside this host.", nic.Attrs().Name), nil
}
