package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/causeway-net/causeway/internal/faults"
)

// defaultAgentSocket is where the agent listens and the commands ask.
const defaultAgentSocket = "/run/causeway/agent.sock"

// settings are what a user can set, by flag or by environment.
type settings struct {
	store       []string
	storeListen string
	// storeInsecure lets the store be used or offered over plain HTTP.
	storeInsecure bool
	storePrefix   string
	// join is the token of a closed cluster, and clusterPort where hosts join it.
	join        string
	clusterPort uint16
	// storeMember says whether this host is to hold the store of a closed cluster.
	storeMember string
	username    string
	password    string
	// passwordFile holds the password, so that it is not among the plugin's settings.
	passwordFile string
	// storeReset accepts another store than the one this host belongs to.
	storeReset bool
	caCert     string
	cert, key  string
	vtep       string
	vxlanPort  uint16
	// ovsDatapath and ovsVXLANPort are for networks of mode=ovs.
	ovsDatapath  string
	ovsVXLANPort uint16
	// wireguardPort and the next one are for encrypted networks, whose keys get so old.
	wireguardPort   uint16
	wireguardKeyAge time.Duration
	hostName        string
	hostExpiry      time.Duration
	scope           string
	dataDir         string
	runDir          string
	socket          string
	agentSocket     string
	docker          string
	logLevel        string
	// metricsListen is where figures are offered; empty: nowhere.
	metricsListen string
	faultPoints   bool
	profiles      bool
	names         bool
	// fastPath leads connections of routed networks past the host's forwarding.
	fastPath bool
}

// registerData has the flags that say where the records are.
func (s *settings) registerData(flags *pflag.FlagSet) {
	flags.StringVar(&s.dataDir, "data-dir", "/var/lib/causeway", "`folder` for the embedded etcd and what must survive a restart")
	flags.StringVar(&s.storePrefix, "store-prefix", "/causeway/v1/", "`prefix` of all keys: clusters with other prefixes can share one etcd")
	flags.Uint16Var(&s.clusterPort, "cluster-port", 2378, "TCP `port` at the VTEP where hosts join; the store's clients use the next one and its members the one after")
}

func (s *settings) register(flags *pflag.FlagSet) {
	s.registerData(flags)
	flags.StringSliceVar(&s.store, "store", nil, "`URLs` of an etcd of your own to keep the records in; none: that of the cluster's hosts, over mutual TLS")
	flags.StringVar(&s.storeListen, "store-listen", "", "`address` to offer an etcd of this host alone at, as before clusters were closed, such as https://10.0.0.1:2379 with --cert and --key")
	flags.BoolVar(&s.storeInsecure, "store-insecure", false, "use --store, or offer --store-listen, over plain HTTP: whoever reaches it rules all networks")
	flags.StringVar(&s.join, "join", "", "`token` of the cluster to join, which \"causeway token\" prints on a host of it; none: this host begins one, or goes on in its own")
	flags.StringVar(&s.storeMember, "store-member", "auto", "whether this host may hold the cluster's store: `auto`, yes or no")
	flags.StringVar(&s.username, "store-user", "", "etcd `user`")
	flags.StringVar(&s.password, "store-password", "", "its `password`; better given in a file")
	flags.StringVar(&s.passwordFile, "store-password-file", "", "`file` with the password of --store-user")
	flags.BoolVar(&s.storeReset, "store-reset", false, "accept an empty store, or another cluster's, in place of the one this host belongs to, and put this host's records into it")
	flags.StringVar(&s.caCert, "cacert", "", "`file` of the authority that signed etcd's certificates")
	flags.StringVar(&s.cert, "cert", "", "`file` of this host's certificate for etcd")
	flags.StringVar(&s.key, "key", "", "`file` of its key")
	flags.StringVar(&s.vtep, "vtep", "", "`address or interface` that tunnels to this host end at; default: those of the default route")
	flags.Uint16Var(&s.vxlanPort, "vxlan-port", 4789, "UDP `port` of VXLAN, the same on all hosts (RFC 7348)")
	flags.StringVar(&s.ovsDatapath, "ovs-datapath", "", "Open vSwitch `datapath` type: system, netdev; default: the kernel's where it has one")
	flags.Uint16Var(&s.ovsVXLANPort, "ovs-vxlan-port", 8472, "UDP `port` of VXLAN on Open vSwitch, the same on all hosts and not --vxlan-port")
	flags.Uint16Var(&s.wireguardPort, "wireguard-port", 51822, "UDP `port` of encrypted networks (WireGuard); every second key of a host has the next one")
	flags.DurationVar(&s.wireguardKeyAge, "wireguard-key-age", 720*time.Hour, "`time` after which this host's key of encrypted networks is rotated, or up to a quarter of it earlier; 0: only by \"causeway hosts rotate-key\"")
	flags.StringVar(&s.hostName, "host-name", "", "`name` of this host in the cluster; default: the kernel's host name")
	flags.DurationVar(&s.hostExpiry, "host-expiry", 0, "`time` such as 24h after which this host releases another that is gone, as \"causeway hosts rm\" does; 0: never")
	flags.StringVar(&s.scope, "scope", "local", "`scope` that Docker is told: local, or global for swarm's networks")
	flags.StringVar(&s.runDir, "run-dir", hostRun, "`folder` where this process sees the host's /run; another one makes it a managed plugin")
	flags.StringVar(&s.socket, "socket", "/run/docker/plugins/causeway.sock", "`path` of the plugin's socket; its name is the driver's")
	flags.StringVar(&s.agentSocket, "agent-socket", defaultAgentSocket, "`path` of the socket that causeway status asks")
	flags.StringVar(&s.docker, "docker-socket", "/run/docker.sock", "`path` of the engine's own socket, to make the cluster's networks there; none: they are made by hand")
	flags.BoolVar(&s.names, "names", true, "answer this host's containers by name, for containers on all hosts")
	flags.BoolVar(&s.fastPath, "fast-path", true, "lead established connections of routed networks past the host's own forwarding, whose filters and counters then see each one's beginning alone")
	flags.StringVar(&s.metricsListen, "metrics-listen", "", "`address` to offer figures in Prometheus' format at, such as 127.0.0.1:9468; others than loopback take this host's certificate")
	flags.BoolVar(&s.faultPoints, "fault-points", false, "let tests end this process, or another, at a step that they name on --agent-socket, below "+faults.Path)
	flags.BoolVar(&s.profiles, "pprof", false, "offer Go's profiles of this process on --agent-socket, below /debug/pprof/")
	flags.StringVar(&s.logLevel, "log-level", "info", "least severe `level` to log: error, warn, info, debug")
}

// envName is that of the variable that sets a flag: --vxlan-port is CAUSEWAY_VXLAN_PORT.
func envName(flag string) string {
	return "CAUSEWAY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// documentEnv adds each flag's variable to its help.
func documentEnv(flags *pflag.FlagSet) {
	flags.VisitAll(func(flag *pflag.Flag) { flag.Usage += " [" + envName(flag.Name) + "]" })
}

// readEnv sets the flags that were not given from the environment. An empty
// variable counts as unset: a managed plugin's settings are all there.
func readEnv(flags *pflag.FlagSet) error {
	var err error
	flags.VisitAll(func(flag *pflag.Flag) {
		value := os.Getenv(envName(flag.Name))
		if flag.Changed || value == "" || err != nil {
			return
		}
		if problem := flags.Set(flag.Name, value); problem != nil {
			err = fmt.Errorf("%s=%q: %w", envName(flag.Name), value, problem)
		}
	})
	return err
}

// check refuses what can be seen to be wrong before anything is opened.
func (s *settings) check() error {
	switch {
	case s.scope != "local" && s.scope != "global":
		return fmt.Errorf("--scope is %q: it must be local or global", s.scope)
	case len(s.store) > 0 && s.storeListen != "":
		return fmt.Errorf("--store-listen offers the embedded store, and --store names another: give one of them")
	case s.join != "" && (len(s.store) > 0 || s.storeListen != ""):
		return fmt.Errorf("--join is for a cluster that keeps its records itself, and --store or --store-listen for one that does not: give one of them")
	case s.clusterPort == 0 || s.clusterPort > 65533:
		return fmt.Errorf("--cluster-port is %d: it and the next two are used, so it must be 1 to 65533", s.clusterPort)
	case !slices.Contains([]string{"auto", "yes", "no"}, s.storeMember):
		return fmt.Errorf("--store-member is %q: it must be auto, yes or no", s.storeMember)
	case s.wireguardPort == 0 || s.wireguardPort == 65535:
		return fmt.Errorf("--wireguard-port is %d: it and the next one are used, so it must be 1 to 65534", s.wireguardPort)
	case s.wireguardKeyAge != 0 && s.wireguardKeyAge < time.Hour:
		return fmt.Errorf("--wireguard-key-age is %v: it must be 0 or at least 1h, as each key of a host is told to all others", s.wireguardKeyAge)
	case s.vxlanPort == 0 || s.ovsVXLANPort == 0:
		return fmt.Errorf("--vxlan-port and --ovs-vxlan-port must not be 0")
	case s.vxlanPort == s.ovsVXLANPort:
		return fmt.Errorf("--vxlan-port and --ovs-vxlan-port are both %d: the kernel's devices and the switch cannot share one", s.vxlanPort)
	case s.hostExpiry != 0 && s.hostExpiry < time.Minute:
		return fmt.Errorf("--host-expiry is %v: it must be 0 or at least 1m, as a host that restarts is gone for a moment", s.hostExpiry)
	case s.password != "" && s.passwordFile != "":
		return fmt.Errorf("--store-password and --store-password-file both give the password: give one of them")
	case (s.username == "") != (s.password == "" && s.passwordFile == ""):
		return fmt.Errorf("--store-user and --store-password or --store-password-file go together")
	}
	if err := s.checkMetrics(); err != nil {
		return err
	}
	return s.checkInsecure()
}

// closed says that the cluster keeps its records itself, for its own hosts alone.
func (s *settings) closed() bool { return len(s.store) == 0 && s.storeListen == "" }

// checkInsecure refuses a store in clear text where it could be overheard or
// reached by others, unless that was asked for.
func (s *settings) checkInsecure() error {
	if s.storeInsecure {
		return nil
	}
	secure := s.caCert != "" || s.cert != ""
	for _, endpoint := range s.store {
		if isInsecure(endpoint, secure) {
			return fmt.Errorf("--store %s is plain HTTP, in which whoever is on the way reads and rewrites all networks: give https:// with --cacert, or accept it with --store-insecure", endpoint)
		}
	}
	if s.storeListen != "" && isInsecure(s.storeListen, s.cert != "") {
		return fmt.Errorf("--store-listen %s is plain HTTP, and whoever reaches it rules all networks: leave it out for a closed cluster, or accept it with --store-insecure", s.storeListen)
	}
	return nil
}

// isInsecure says that a store at endpoint, a URL or host:port, would be used in
// clear text beyond this host. secure is what an address without a scheme means.
func isInsecure(endpoint string, secure bool) bool {
	scheme, address, found := strings.Cut(endpoint, "://")
	if !found {
		address = endpoint
	}
	if found && scheme != "http" || !found && secure {
		return false
	}
	address = strings.TrimRight(address, "/")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	addr, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !addr.IsLoopback())
}

// mirrors says whether the engine's networks follow the cluster's by themselves.
func (s *settings) mirrors() bool { return s.docker != "" && s.docker != "none" }

// tunnelPorts are the UDP ports that tunnels end at.
func (s *settings) tunnelPorts() []uint16 {
	const geneve = 6081 // RFC 8926 §3.3
	return []uint16{s.vxlanPort, s.ovsVXLANPort, geneve}
}

// ownCertificates are the files of the user's that the store is reached with.
func (s *settings) ownCertificates() (paths []string) {
	for _, path := range []string{s.caCert, s.cert} {
		if path != "" {
			paths = append(paths, s.onHost(path))
		}
	}
	return paths
}

// ownPorts are the TCP ports that causeway offers at the VTEP. An etcd of the user's own
// may serve containers, too.
func (s *settings) ownPorts() []uint16 {
	var ports []uint16
	if isInsecure(s.metricsListen, false) {
		ports = portOf(s.metricsListen)
	}
	if s.closed() {
		return append(ports, s.clusterPort, s.clusterPort+1, s.clusterPort+2)
	}
	return append(ports, portOf(s.storeListen[strings.Index(s.storeListen, "://")+1:])...)
}

// portOf gives the port of an address; none where it has none.
func portOf(address string) []uint16 {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	port, err := strconv.ParseUint(strings.TrimRight(text, "/"), 10, 16)
	if err != nil {
		return nil
	}
	return []uint16{uint16(port)}
}
