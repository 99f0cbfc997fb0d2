package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// defaultAgentSocket is where the agent listens and the commands ask.
const defaultAgentSocket = "/run/causeway/agent.sock"

// settings are what a user can set, by flag or by environment.
type settings struct {
	store       []string
	storeListen string
	storePrefix string
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
	hostName     string
	hostExpiry   time.Duration
	scope        string
	dataDir      string
	runDir       string
	socket       string
	agentSocket  string
	docker       string
	logLevel     string
	names        bool
}

// registerData has the flags that say where the records are.
func (s *settings) registerData(flags *pflag.FlagSet) {
	flags.StringVar(&s.dataDir, "data-dir", "/var/lib/causeway", "`folder` for the embedded etcd and what must survive a restart")
	flags.StringVar(&s.storePrefix, "store-prefix", "/causeway/v1/", "`prefix` of all keys: clusters with other prefixes can share one etcd")
}

func (s *settings) register(flags *pflag.FlagSet) {
	s.registerData(flags)
	flags.StringSliceVar(&s.store, "store", nil, "`URLs` of the etcd to keep the records in; none: one embedded here, in --data-dir")
	flags.StringVar(&s.storeListen, "store-listen", "", "`address` to offer the embedded etcd to other hosts at, such as http://10.0.0.1:2379")
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
	flags.StringVar(&s.hostName, "host-name", "", "`name` of this host in the cluster; default: the kernel's host name")
	flags.DurationVar(&s.hostExpiry, "host-expiry", 0, "`time` such as 24h after which this host releases another that is gone, as \"causeway hosts rm\" does; 0: never")
	flags.StringVar(&s.scope, "scope", "local", "`scope` that Docker is told: local, or global for swarm's networks")
	flags.StringVar(&s.runDir, "run-dir", hostRun, "`folder` where this process sees the host's /run; another one makes it a managed plugin")
	flags.StringVar(&s.socket, "socket", "/run/docker/plugins/causeway.sock", "`path` of the plugin's socket; its name is the driver's")
	flags.StringVar(&s.agentSocket, "agent-socket", defaultAgentSocket, "`path` of the socket that causeway status asks")
	flags.StringVar(&s.docker, "docker-socket", "/run/docker.sock", "`path` of the engine's own socket, to make the cluster's networks there; none: they are made by hand")
	flags.BoolVar(&s.names, "names", true, "answer this host's containers by name, for containers on all hosts")
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
	return nil
}

// mirrors says whether the engine's networks follow the cluster's by themselves.
func (s *settings) mirrors() bool { return s.docker != "" && s.docker != "none" }
