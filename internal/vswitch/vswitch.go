// Package vswitch has the verbs and words of Open vSwitch: its bridges and ports, and
// the flows and groups of one bridge.
//
// A request's path: a method of [Switch] puts a command of ovs-vsctl or ovs-ofctl
// together, a circuit breaker bounds it and fails it at once while the switch does not
// answer, and what it prints is read. [Database] follows the database over its own
// connection.
package vswitch

import (
	"cmp"
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
	"github.com/causeway-net/causeway/internal/jsonrpc"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/openflow"
)

// Keys of external_ids. The last two are Open vSwitch's own convention
// (Documentation/topics/integration), which other tools read.
const (
	IDBridge    = "causeway-bridge"    // of a bridge: we made it
	IDTunnel    = "causeway-tunnel"    // of an interface: the tunnel's type
	IDNetwork   = "causeway-network"   // the network's ID
	IDName      = "causeway-name"      // the network's name
	IDEndpoint  = "causeway-endpoint"  // Docker's EndpointID
	IDContainer = "causeway-container" // the container's name, where known
	IDIface     = "iface-id"
	IDMAC       = "attached-mac"
)

// Switch has the verbs on one bridge.
type Switch struct {
	// Exec runs a command unless the circuit breaker is open.
	Exec Exec

	runDir  string
	bridge  string
	breaker *breaker
}

// New returns the Switch for a bridge, which need not be there, of the daemons whose
// sockets are in runDir. A nil run runs the real commands.
func New(runDir, bridge string, run Exec) *Switch {
	if run == nil {
		run = execIn(runDir)
	}
	s := &Switch{runDir: runDir, bridge: bridge}
	s.breaker = &breaker{run: run, generation: s.Generation}
	s.Exec = s.breaker.exec
	return s
}

// Unresponsive says that the switch did not answer lately, and is not to be asked now.
func (s *Switch) Unresponsive() bool { return s.breaker.open() }

// TimedOut opens the circuit breaker for a caller that the switch did not answer.
func (s *Switch) TimedOut() { s.breaker.trip() }

var errNotRunning = errors.New("Open vSwitch is not running on this host") //nolint:staticcheck // it is a name

func (s *Switch) Missing(ctx context.Context) error {
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

func (s *Switch) noDatabase(ctx context.Context) error {
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

// Management is the path of the bridge's OpenFlow socket.
func (s *Switch) Management() string { return filepath.Join(s.runDir, s.bridge+".mgmt") }

// Generation is another text after a restart of ovs-vswitchd and after the
// bridge was recreated: the bridge's socket is then another file. It is empty
// while there is no bridge.
func (s *Switch) Generation() string {
	info, err := os.Stat(s.Management())
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d %d.%d", stat.Ino, stat.Ctim.Sec, stat.Ctim.Nsec)
}

// AddBridge creates the bridge; without our flows it forwards nothing (fail_mode).
func (s *Switch) AddBridge(ctx context.Context, datapath string) error {
	_, err := s.Exec(ctx, nil, "ovs-vsctl", "--may-exist", "add-br", s.bridge, "--", "set", "Bridge", s.bridge,
		"datapath_type="+datapath, "fail_mode=secure", "external_ids:"+IDBridge+"="+quote(s.bridge))
	if err != nil {
		return fmt.Errorf("add bridge %s: %w", s.bridge, err)
	}
	return nil
}

// Device is the kind of a tunnel that is a device of the kernel's.
const Device = ""

// Tunnel is what a Tunnel port must be.
type Tunnel struct {
	Kind string
	VTEP netip.Addr
	Port uint16 // UDP; zero where the kind has none, or has one by its standard
	// Number is the OpenFlow port that is asked for; zero: any.
	Number int
}

func (t Tunnel) Options() map[string]string {
	if t.Kind == Device {
		return nil
	}
	options := map[string]string{"remote_ip": "flow", "key": "flow", "local_ip": t.VTEP.String()}
	if t.Port != 0 {
		options["dst_port"] = fmt.Sprint(t.Port)
	}
	return options
}

func (s *Switch) AddTunnel(ctx context.Context, name string, t Tunnel) error {
	args := []string{"--may-exist", "add-port", s.bridge, name, "--", "set", "Interface", name, "type=" + cmp.Or(t.Kind, quote(Device))}
	args = append(args, pairs("options", t.Options())...)
	args = append(args, "external_ids:"+IDTunnel+"="+quote(cmp.Or(t.Kind, "device")))
	if t.Number != 0 {
		args = append(args, fmt.Sprintf("ofport_request=%d", t.Number))
	}
	if _, err := s.Exec(ctx, nil, "ovs-vsctl", args...); err != nil {
		return fmt.Errorf("add tunnel port %s: %w", name, err)
	}
	return nil
}

// AddPorts puts the host's ends of endpoints on the bridge, in one transaction.
func (s *Switch) AddPorts(ctx context.Context, network fabric.Network, endpoints []fabric.Endpoint) error {
	var args []string
	for _, e := range endpoints {
		name := nl.HostEnd(e.ID)
		ids := map[string]string{IDNetwork: network.ID, IDEndpoint: e.ID, IDIface: e.ID, IDMAC: e.MAC.String()}
		if network.Name != "" {
			ids[IDName] = network.Name
		}
		if e.Name != "" {
			ids[IDContainer] = e.Name
		}
		args = append(args, "--", "--may-exist", "add-port", s.bridge, name, "--", "set", "Interface", name)
		args = append(args, pairs("external_ids", ids)...)
	}
	if _, err := s.Exec(ctx, nil, "ovs-vsctl", args[1:]...); err != nil {
		return fmt.Errorf("add ports to bridge %s: %w", s.bridge, err)
	}
	return nil
}

// Label writes the containers' names to ports, by port; the switch itself has
// nothing to do for it.
func (s *Switch) Label(ctx context.Context, containers map[string]string) error {
	args := []string{"--no-wait"}
	for _, name := range slices.Sorted(maps.Keys(containers)) {
		args = append(args, "--", "--if-exists", "set", "Interface", name, "external_ids:"+IDContainer+"="+quote(containers[name]))
	}
	if _, err := s.Exec(ctx, nil, "ovs-vsctl", args...); err != nil {
		return fmt.Errorf("label ports: %w", err)
	}
	return nil
}

// DeletePorts deletes ports, those that are there, in one transaction.
func (s *Switch) DeletePorts(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	var args []string
	for _, name := range names {
		args = append(args, "--", "--if-exists", "del-port", s.bridge, name)
	}
	if _, err := s.Exec(ctx, nil, "ovs-vsctl", args[1:]...); err != nil {
		return fmt.Errorf("delete ports from bridge %s: %w", s.bridge, err)
	}
	return nil
}

// OpenFlow15 is the protocol whose words flow.go speaks; bundles of groups ask for 1.4.
const OpenFlow15 = "OpenFlow15"

// DumpFlows reads the flows of a cookie; filter may narrow them further
// ("table=50"). A mask of all ones is for one network, cookieMask for all.
func (s *Switch) DumpFlows(ctx context.Context, cookie, mask uint64, filter string) ([]Flow, error) {
	match := fmt.Sprintf("cookie=%#x/%#x", cookie, mask)
	if filter != "" {
		match += "," + filter
	}
	out, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "--no-stats", "dump-flows", s.bridge, match)
	if err != nil {
		return nil, fmt.Errorf("read flows of bridge %s: %w", s.bridge, err)
	}
	return parseFlows(string(out))
}

// DumpGroups reads the groups of type all, and counts the others.
func (s *Switch) DumpGroups(ctx context.Context) (groups []Group, others int, err error) {
	out, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "dump-groups", s.bridge)
	if err != nil {
		return nil, 0, fmt.Errorf("read groups of bridge %s: %w", s.bridge, err)
	}
	return parseGroups(string(out))
}

// Write applies c: all flows and groups at once, or nothing of them. Flows find their
// meters, and a meter that goes takes none along.
func (s *Switch) Write(ctx context.Context, c Change) error {
	var set, remove []openflow.MeterChange
	for _, change := range c.Meters {
		if change.Command == openflow.DeleteMeter {
			remove = append(remove, change)
		} else {
			set = append(set, change)
		}
	}
	if err := s.changeMeters(ctx, set); err != nil {
		return err
	}
	if err := s.writeBundle(ctx, c); err != nil {
		return err
	}
	return s.changeMeters(ctx, remove)
}

func (s *Switch) writeBundle(ctx context.Context, c Change) error {
	if c.Size() == 0 {
		return nil
	}
	_, err := s.Exec(ctx, strings.NewReader(c.Bundle()), "ovs-ofctl", "-O", OpenFlow15, "bundle", s.bridge, "-")
	if err != nil {
		return fmt.Errorf("write %d flows and groups to bridge %s: %w", c.Size(), s.bridge, err)
	}
	return nil
}

func (s *Switch) DeleteCookie(ctx context.Context, cookie uint64) error {
	_, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "del-flows", s.bridge, fmt.Sprintf("cookie=%#x/-1", cookie))
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

// ListPorts returns the names of the bridge's ports.
func (s *Switch) ListPorts(ctx context.Context) ([]string, error) {
	ports, err := s.client(ctx).VSwitch.ListPorts(s.bridge)
	if err != nil {
		return nil, fmt.Errorf("list ports of bridge %s: %w", s.bridge, cause(err))
	}
	return ports, nil
}

// DeleteBridge deletes the bridge.
func (s *Switch) DeleteBridge(ctx context.Context) error {
	if err := s.client(ctx).VSwitch.DeleteBridge(s.bridge); err != nil {
		return fmt.Errorf("delete bridge %s: %w", s.bridge, cause(err))
	}
	return nil
}

// BridgeOf returns the Open vSwitch bridge, ours or another's, that has device as a
// port or is device itself. It is empty if there is none, and if Open vSwitch does not
// run or does not answer. Any goroutine may call it.
func (s *Switch) BridgeOf(ctx context.Context, device string) string {
	if device == "" || s.Unresponsive() || s.noDatabase(ctx) != nil {
		return "" // the database alone knows, whether ovs-vswitchd runs or not
	}
	return s.bridgeOf(ctx, device)
}

func (s *Switch) bridgeOf(ctx context.Context, device string) string {
	if _, err := s.Exec(ctx, nil, "ovs-vsctl", "br-exists", device); err == nil {
		return device
	}
	bridge, err := s.Exec(ctx, nil, "ovs-vsctl", "iface-to-br", device)
	if err != nil {
		return "" // so it says that no bridge has the device
	}
	return strings.TrimSpace(string(bridge))
}

// Control connects to ovs-vswitchd's control socket, that of ovs-appctl.
func (s *Switch) Control(ctx context.Context) (*jsonrpc.Conn, error) {
	sockets, err := filepath.Glob(filepath.Join(s.runDir, "ovs-vswitchd.*.ctl"))
	if err != nil {
		return nil, err
	}
	err = errNotRunning
	for _, socket := range sockets { // that of a killed one may be left
		var conn *jsonrpc.Conn
		if conn, err = jsonrpc.Dial(ctx, socket); err == nil {
			return conn, nil
		}
	}
	return nil, err
}
