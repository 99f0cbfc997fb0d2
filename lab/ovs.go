package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// physicalBridge is the OVS bridge that has the host's NIC and its addresses:
// OVS in user space sends a tunnel's packets only by a route through a bridge of
// its own.
const physicalBridge = "brphy"

// bridgeOnly keeps the kernel from answering what OVS answers too: both get each
// packet of the NIC, OVS before this hook.
const bridgeOnly = `table netdev lab {
	chain nic {
		type filter hook ingress device "eth0" priority 0; policy drop;
	}
}
`

func ovsDir() string { return filepath.Join(cacheDir(), "openvswitch") }

// ovsPackages are Open vSwitch with the libraries that a small Debian lacks.
func ovsPackages() []pkg {
	var packages []pkg
	for _, name := range []string{
		"openvswitch-switch", "openvswitch-common", "libbpf1", "libcap-ng0", "libelf1", "libevent-2.1-7",
		"libnuma1", "libssl3", "libunbound8", "libxdp1",
	} {
		packages = append(packages, pkg{name, "bookworm"})
	}
	return packages
}

// addOVS gives the host the two daemons of Open vSwitch, with their standard paths.
func (h *Host) addOVS() {
	h.OVSDB = &Daemon{
		machine: h.Machine, name: "ovsdb-server",
		argv: func() []string {
			return []string{
				"ovsdb-server", "/var/lib/openvswitch/conf.db", "--remote=punix:/run/openvswitch/db.sock",
				"--pidfile", "-vconsole:info", "-vsyslog:off",
			}
		},
		prepare: h.createOVSDatabase,
		ready: func(ctx context.Context) error {
			_, err := h.Run(ctx, "ovs-vsctl", "--timeout=5", "--no-wait", "init")
			return err
		},
	}
	h.VSwitchd = &Daemon{
		machine: h.Machine, name: "ovs-vswitchd",
		argv: func() []string {
			return []string{"ovs-vswitchd", "unix:/run/openvswitch/db.sock", "--pidfile", "-vconsole:info", "-vsyslog:off"}
		},
		ready: func(ctx context.Context) error {
			_, err := h.Run(ctx, "ovs-appctl", "--timeout=5", "-t", "ovs-vswitchd", "version")
			return err
		},
		settle: h.moveToBridge,
	}
}

// StartOVS starts both daemons of Open vSwitch.
func (h *Host) StartOVS(ctx context.Context) error {
	if err := h.OVSDB.Start(ctx); err != nil {
		return err
	}
	return h.VSwitchd.Start(ctx)
}

// StopOVS stops both. The host is off the network until they start again: its
// addresses are on a bridge of theirs.
func (h *Host) StopOVS(ctx context.Context) error {
	return errors.Join(h.VSwitchd.Stop(ctx), h.OVSDB.Stop(ctx))
}

func (h *Host) createOVSDatabase(ctx context.Context) error {
	for _, dir := range []string{"/run/openvswitch", "/var/lib/openvswitch"} {
		if err := os.MkdirAll(h.Path(dir), 0o755); err != nil {
			return err
		}
	}
	const database = "/var/lib/openvswitch/conf.db"
	if _, err := os.Stat(h.Path(database)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := h.Run(ctx, "ovsdb-tool", "create", database, filepath.Join(ovsDir(), "usr/share/openvswitch/vswitch.ovsschema"))
	return err
}

// moveToBridge makes brphy with the NIC in it, and moves the addresses there. The
// bridge's device goes with vswitchd, so this is done after each of its starts.
func (h *Host) moveToBridge(ctx context.Context) error {
	mac, err := os.ReadFile(h.Path("/sys/class/net/eth0/address"))
	if err != nil {
		return err
	}
	if _, err := h.Run(ctx, "ovs-vsctl", "--timeout=10",
		"--may-exist", "add-br", physicalBridge,
		"--", "set", "bridge", physicalBridge, "datapath_type=netdev",
		fmt.Sprintf("other-config:hwaddr=%q", strings.TrimSpace(string(mac))),
		"--", "set", "interface", physicalBridge, fmt.Sprintf("mtu_request=%d", h.lab.state.Options.MTU),
		"--", "--may-exist", "add-port", physicalBridge, "eth0"); err != nil {
		return err
	}
	if _, err := h.feed(ctx, strings.NewReader(bridgeOnly), "nft", "-f", "-"); err != nil {
		return err
	}
	moved := h.spec
	moved.nics = []nic{{physicalBridge, h.nics[0].addrs}}
	batch := "addr flush dev eth0\n" + machineBatch(moved)
	_, err = h.feed(ctx, strings.NewReader(batch), "ip", "-batch", "-")
	return err
}
