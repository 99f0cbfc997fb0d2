package ovs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

// Keys of external_ids. The last two are Open vSwitch's own convention
// (Documentation/topics/integration), which other tools read.
const (
	idBridge    = "causeway-bridge"    // of a bridge: we made it
	idTunnel    = "causeway-tunnel"    // of an interface: the tunnel's type
	idNetwork   = "causeway-network"   // the network's ID
	idName      = "causeway-name"      // the network's name
	idEndpoint  = "causeway-endpoint"  // Docker's EndpointID
	idContainer = "causeway-container" // the container's name, where known
	idIface     = "iface-id"
	idMAC       = "attached-mac"
)

// vswitch has the verbs on one bridge.
type vswitch struct {
	exec   Exec
	runDir string
	bridge string
}

var errNotRunning = errors.New("Open vSwitch is not running on this host") //nolint:staticcheck // it is a name

// missing says why there is no Open vSwitch to talk to; nil when there is.
func (s vswitch) missing(ctx context.Context) error {
	if err := s.noDatabase(ctx); err != nil {
		return err
	}
	controls, err := filepath.Glob(filepath.Join(s.runDir, "ovs-vswitchd.*.ctl"))
	if err != nil {
		return fmt.Errorf("%w: %w", errNotRunning, err)
	}
	if !slices.ContainsFunc(controls, func(socket string) bool { return answers(ctx, socket) }) {
		return fmt.Errorf("%w: ovs-vswitchd does not answer in %s: start it", errNotRunning, s.runDir)
	}
	return nil
}

func (s vswitch) noDatabase(ctx context.Context) error {
	db := filepath.Join(s.runDir, "db.sock")
	if _, err := os.Stat(db); err != nil {
		return fmt.Errorf("%w: no %s: install openvswitch-switch and start it", errNotRunning, db)
	}
	if !answers(ctx, db) {
		return fmt.Errorf("%w: ovsdb-server does not answer on %s", errNotRunning, db)
	}
	return nil
}

func answers(ctx context.Context, socket string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// management is the path of the bridge's OpenFlow socket.
func (s vswitch) management() string { return filepath.Join(s.runDir, s.bridge+".mgmt") }

// generation is another text after a restart of ovs-vswitchd and after the
// bridge was recreated: the bridge's socket is then another file. It is empty
// while there is no bridge.
func (s vswitch) generation() string {
	info, err := os.Stat(s.management())
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d.%d", stat.Ino, stat.Ctim.Sec, stat.Ctim.Nsec)
}

// addBridge creates the bridge; without our flows it forwards nothing (fail_mode).
func (s vswitch) addBridge(ctx context.Context, datapath string) error {
	_, err := s.exec(ctx, nil, "ovs-vsctl", "--may-exist", "add-br", s.bridge, "--", "set", "Bridge", s.bridge,
		"datapath_type="+datapath, "fail_mode=secure", "external_ids:"+idBridge+"="+quote(s.bridge))
	if err != nil {
		return fmt.Errorf("add bridge %s: %w", s.bridge, err)
	}
	return nil
}

// tunnel is what a tunnel port must be.
type tunnel struct {
	kind string
	vtep netip.Addr
	port uint16 // UDP; zero where the kind has none, or has one by its standard
}

func (t tunnel) options() map[string]string {
	options := map[string]string{"remote_ip": "flow", "key": "flow", "local_ip": t.vtep.String()}
	if t.port != 0 {
		options["dst_port"] = fmt.Sprint(t.port)
	}
	return options
}

func (s vswitch) addTunnel(ctx context.Context, name string, t tunnel) error {
	args := []string{"--may-exist", "add-port", s.bridge, name, "--", "set", "Interface", name, "type=" + t.kind}
	args = append(args, pairs("options", t.options())...)
	args = append(args, "external_ids:"+idTunnel+"="+quote(t.kind))
	if _, err := s.exec(ctx, nil, "ovs-vsctl", args...); err != nil {
		return fmt.Errorf("add tunnel port %s: %w", name, err)
	}
	return nil
}

// addPorts puts the host's ends of endpoints on the bridge, in one transaction.
func (s vswitch) addPorts(ctx context.Context, network fabric.Network, endpoints []fabric.Endpoint) error {
	var args []string
	for _, e := range endpoints {
		name := nl.HostEnd(e.ID)
		ids := map[string]string{idNetwork: network.ID, idEndpoint: e.ID, idIface: e.ID, idMAC: e.MAC.String()}
		if network.Name != "" {
			ids[idName] = network.Name
		}
		if e.Name != "" {
			ids[idContainer] = e.Name
		}
		args = append(args, "--", "--may-exist", "add-port", s.bridge, name, "--", "set", "Interface", name)
		args = append(args, pairs("external_ids", ids)...)
	}
	if _, err := s.exec(ctx, nil, "ovs-vsctl", args[1:]...); err != nil {
		return fmt.Errorf("add ports to bridge %s: %w", s.bridge, err)
	}
	return nil
}

// label writes the containers' names to ports, by port; the switch itself has
// nothing to do for it.
func (s vswitch) label(ctx context.Context, containers map[string]string) error {
	args := []string{"--no-wait"}
	for _, name := range slices.Sorted(maps.Keys(containers)) {
		args = append(args, "--", "--if-exists", "set", "Interface", name, "external_ids:"+idContainer+"="+quote(containers[name]))
	}
	if _, err := s.exec(ctx, nil, "ovs-vsctl", args...); err != nil {
		return fmt.Errorf("label ports: %w", err)
	}
	return nil
}

// deletePorts deletes ports, those that are there, in one transaction.
func (s vswitch) deletePorts(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	var args []string
	for _, name := range names {
		args = append(args, "--", "--if-exists", "del-port", s.bridge, name)
	}
	if _, err := s.exec(ctx, nil, "ovs-vsctl", args[1:]...); err != nil {
		return fmt.Errorf("delete ports from bridge %s: %w", s.bridge, err)
	}
	return nil
}

// openFlow15 is the protocol whose words flow.go speaks; bundles of groups ask for 1.4.
const openFlow15 = "OpenFlow15"

// dumpFlows reads the flows of a cookie; filter may narrow them further
// ("table=50"). A mask of all ones is for one network, cookieMask for all.
func (s vswitch) dumpFlows(ctx context.Context, cookie, mask uint64, filter string) ([]flow, error) {
	match := fmt.Sprintf("cookie=%#x/%#x", cookie, mask)
	if filter != "" {
		match += "," + filter
	}
	out, err := s.exec(ctx, nil, "ovs-ofctl", "-O", openFlow15, "--no-stats", "dump-flows", s.bridge, match)
	if err != nil {
		return nil, fmt.Errorf("read flows of bridge %s: %w", s.bridge, err)
	}
	return parseFlows(string(out))
}

// dumpGroups reads our groups, of all networks, and counts those of others.
func (s vswitch) dumpGroups(ctx context.Context) (ours map[uint32]string, others int, err error) {
	out, err := s.exec(ctx, nil, "ovs-ofctl", "-O", openFlow15, "dump-groups", s.bridge)
	if err != nil {
		return nil, 0, fmt.Errorf("read groups of bridge %s: %w", s.bridge, err)
	}
	return parseGroups(string(out))
}

// write applies c in one bundle: all of it at once, or nothing.
func (s vswitch) write(ctx context.Context, c change) error {
	if c.size() == 0 {
		return nil
	}
	_, err := s.exec(ctx, strings.NewReader(c.bundle()), "ovs-ofctl", "-O", openFlow15, "bundle", s.bridge, "-")
	if err != nil {
		return fmt.Errorf("write %d flows and groups to bridge %s: %w", c.size(), s.bridge, err)
	}
	return nil
}

func (s vswitch) deleteCookie(ctx context.Context, cookie uint64) error {
	_, err := s.exec(ctx, nil, "ovs-ofctl", "-O", openFlow15, "del-flows", s.bridge, fmt.Sprintf("cookie=%#x/-1", cookie))
	if err != nil {
		return fmt.Errorf("delete flows from bridge %s: %w", s.bridge, err)
	}
	return nil
}

// pairs returns column:key="value" words, sorted by key.
func pairs(column string, values map[string]string) []string {
	var words []string
	for key, value := range values {
		words = append(words, column+":"+key+"="+quote(value))
	}
	slices.Sort(words)
	return words
}

// quote returns text as one word of the database's syntax.
func quote(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil { // a string has no way to fail
		return `""`
	}
	return string(quoted)
}
