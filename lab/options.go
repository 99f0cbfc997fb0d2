package lab

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Where the records are kept.
const (
	// StoreEmbedded has h1 begin a closed cluster, which the others join with a token.
	StoreEmbedded = "embedded"
	// StoreEtcd runs a real etcd server on a machine of its own.
	StoreEtcd = "etcd"
)

const (
	defaultEngine = "28.5"
	maxHosts      = 100
)

// Options say what lab to bring up. The zero value gives two hosts with the
// newest engine.
type Options struct {
	// Name tells labs on one machine apart; default: $CAUSEWAY_LAB or "demo".
	Name string `json:"name"`
	// Hosts is the number of Docker hosts, h1 and on; default 2.
	Hosts int `json:"hosts"`
	// Far is how many of the hosts, the last ones, are on a second LAN behind the router.
	Far int `json:"far,omitempty"`
	// Engine is Docker's version, one of [Engines].
	Engine string `json:"engine"`
	// Engines gives single hosts another version: the first is that of h1; an
	// empty one means Engine.
	Engines []string `json:"engines,omitempty"`
	// Store is [StoreEmbedded] (the default) or [StoreEtcd].
	Store string `json:"store"`
	// Causeway is the path of the binary to run; default: the one beside the
	// running program, else bin/causeway.
	Causeway string `json:"causeway"`
	// CausewayArgs are added to each host's causeway serve.
	CausewayArgs []string `json:"causeway_args,omitempty"`
	// NoCauseway leaves the hosts with Docker alone.
	NoCauseway bool `json:"no_causeway,omitempty"`
	// Plugin installs causeway as a managed plugin from a registry, instead of
	// running the binary. With NoCauseway it is in the registry only.
	Plugin bool `json:"plugin,omitempty"`
	// Source is the folder with the Makefile that builds the plugin; default: the
	// working folder.
	Source string `json:"source,omitempty"`
	// DockerArgs are added to each host's dockerd.
	DockerArgs []string `json:"docker_args,omitempty"`
	// MTU of all links in bytes; default 1500.
	MTU int `json:"mtu"`
	// VTEP6 has tunnels end at the hosts' IPv6 addresses.
	VTEP6 bool `json:"vtep6,omitempty"`
	// OVS runs Open vSwitch on each host, on its datapath in user space.
	OVS bool `json:"ovs,omitempty"`
	// WireGuard puts wireguard-go and wg on each host's PATH: for kernels without it.
	WireGuard bool `json:"wireguard,omitempty"`
	// Compose puts docker-compose on each host's PATH.
	Compose bool `json:"compose,omitempty"`
	// Log gets a line for each step; nil: nobody does.
	Log io.Writer `json:"-"`
}

// DefaultName is the lab that commands mean when none is named.
func DefaultName() string { return cmp.Or(os.Getenv("CAUSEWAY_LAB"), "demo") }

func (o Options) withDefaults() Options {
	o.Name = cmp.Or(o.Name, DefaultName())
	o.Hosts = cmp.Or(o.Hosts, 2)
	o.Engine = cmp.Or(o.Engine, defaultEngine)
	o.Store = cmp.Or(o.Store, StoreEmbedded)
	o.MTU = cmp.Or(o.MTU, 1500)
	if o.Log == nil {
		o.Log = io.Discard
	}
	if o.Causeway == "" && o.needsBinary() {
		o.Causeway = findCauseway()
	}
	return o
}

func (o Options) needsBinary() bool { return o.Plugin || !o.NoCauseway }

func findCauseway() string {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "causeway")
		if _, err := os.Stat(beside); err == nil {
			return beside
		}
	}
	return filepath.Join("bin", "causeway")
}

// validName keeps a lab's name fit for a folder, a cgroup and a pattern.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

func (o Options) check() error {
	switch {
	case !validName.MatchString(o.Name):
		return fmt.Errorf("lab name %q: it must have lower-case letters, digits and dashes only", o.Name)
	case o.Hosts < 1 || o.Hosts > maxHosts:
		return fmt.Errorf("%d hosts: a lab has 1 to %d", o.Hosts, maxHosts)
	case o.Far < 0 || o.Far > o.Hosts:
		return fmt.Errorf("%d far hosts: there are %d hosts", o.Far, o.Hosts)
	case len(o.Engines) > o.Hosts:
		return fmt.Errorf("%d engines are named for %d hosts", len(o.Engines), o.Hosts)
	case o.Store != StoreEmbedded && o.Store != StoreEtcd:
		return fmt.Errorf("store %q: it must be %s or %s", o.Store, StoreEmbedded, StoreEtcd)
	case o.MTU < 1280 || o.MTU > 65535:
		return fmt.Errorf("MTU %d: it must be 1280 to 65535", o.MTU)
	}
	for _, version := range o.engines() {
		if !slices.Contains(Engines(), version) {
			return fmt.Errorf("engine %q: there are %s", version, strings.Join(Engines(), ", "))
		}
	}
	if !o.needsBinary() {
		return nil
	}
	if info, err := os.Stat(o.Causeway); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("no causeway at %s: make build makes it", o.Causeway)
	}
	return nil
}

// tokens says that the hosts join with one.
func (o Options) tokens() bool { return !o.NoCauseway && o.Store == StoreEmbedded }

// engines gives each host's version.
func (o Options) engines() []string {
	versions := slices.Repeat([]string{o.Engine}, o.Hosts)
	for i, version := range o.Engines {
		versions[i] = cmp.Or(version, o.Engine)
	}
	return versions
}
