package driver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-net/causeway/fabric"
)

// Keys of the maps that Docker sends (libnetwork's netlabel package).
const (
	labelGeneric  = "com.docker.network.generic"
	labelInternal = "com.docker.network.internal"
	labelIPv6     = "com.docker.network.enable_ipv6"
	labelMTU      = "com.docker.network.driver.mtu"
	labelPorts    = "com.docker.network.portmap"
)

// maxVNI is the largest of 24 bits (RFC 7348 §5) but for those of the routed networks.
const maxVNI = fabric.SealedVNI - 1

// The bounds of a block's prefix length: from 65,536 IPv4 addresses to four.
const (
	minBlock = 16
	maxBlock = 30
)

// options are a network's -o pairs, decoded once.
type options struct {
	network fabric.Network // the fields that options set
	join    string
	force   bool
}

// setters lists the options that causeway knows, and how each is read.
func setters() map[string]func(*options, string) error {
	text := func(field func(*options) *string) func(*options, string) error {
		return func(o *options, v string) error {
			if v == "" {
				return fmt.Errorf("must not be empty")
			}
			*field(o) = v
			return nil
		}
	}
	number := func(field func(*options) *int, least, most int) func(*options, string) error {
		return func(o *options, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < least || n > most {
				return fmt.Errorf("must be a number from %d to %d", least, most)
			}
			*field(o) = n
			return nil
		}
	}
	boolean := func(set func(*options, bool)) func(*options, string) error {
		return func(o *options, v string) error {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("must be true or false")
			}
			set(o, b)
			return nil
		}
	}
	mtu := number(func(o *options) *int { return &o.network.MTU }, fabric.MinMTU, fabric.MaxMTU)
	all := map[string]func(*options, string) error{
		"mode": oneOf(func(o *options, v string) { o.network.Mode = fabric.Mode(v) },
			string(fabric.ModeVXLAN), string(fabric.ModeOVS), string(fabric.ModeUnderlay), string(fabric.ModeRouted)),
		"tunnel": oneOf(func(o *options, v string) { o.network.Tunnel = v }, "vxlan", "geneve", "gre"),
		"vni":    setVNI,
		"mtu":    mtu,
		labelMTU: mtu,
		"via": oneOf(func(o *options, v string) { o.network.Via = fabric.Via(v) },
			string(fabric.ViaAuto), string(fabric.ViaDirect), string(fabric.ViaVXLAN)),
		"block":  number(func(o *options) *int { return &o.network.Block }, minBlock, maxBlock),
		"parent": text(func(o *options) *string { return &o.network.Parent }),
		"bridge": text(func(o *options) *string { return &o.network.Bridge }),
		"vlan":   number(func(o *options) *int { return &o.network.VLAN }, 1, 4094),
		"encrypted": func(o *options, v string) error { // Docker's overlay takes it without a value
			return boolean(func(o *options, v bool) { o.network.Encrypted = v })(o, cmp.Or(v, "true"))
		},
		"force":              boolean(func(o *options, v bool) { o.force = v }),
		"probe":              boolean(func(o *options, v bool) { o.network.NoProbe = !v }),
		"gateway":            oneOf(func(o *options, v string) { o.network.DockerGateway = v == gatewayOfDocker }, gatewayOfHost, gatewayOfDocker),
		"masquerade":         boolean(func(o *options, v bool) { o.network.NoMasquerade = !v }),
		"host-access":        boolean(func(o *options, v bool) { o.network.HostAccess = v }),
		"names":              boolean(func(o *options, v bool) { o.network.NoNames = !v }),
		fabric.OptionNetwork: text(func(o *options) *string { return &o.join }),
		// The engine itself acts on these (28.0 and newer).
		"com.docker.network.advertise_addr_nmsgs": ignored,
		"com.docker.network.advertise_addr_ms":    ignored,
	}
	maps.Copy(all, portSetters())
	return all
}

func setVNI(o *options, v string) error {
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil || n < 1 || n > maxVNI {
		return fmt.Errorf("must be a number from 1 to %d", maxVNI)
	}
	o.network.VNI = uint32(n)
	return nil
}

func ignored(*options, string) error { return nil }

// What -o gateway= may be: the network's own on each host, or docker_gwbridge.
const (
	gatewayOfHost   = "host"
	gatewayOfDocker = "docker"
)

func oneOf(set func(*options, string), words ...string) func(*options, string) error {
	return func(o *options, v string) error {
		if !slices.Contains(words, v) {
			return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
		}
		set(o, v)
		return nil
	}
}

// decodeOptions reads the Options of CreateNetwork. An option that is not known
// is an error that lists those that are.
func decodeOptions(sent map[string]any) (options, error) {
	var o options
	o.network.Internal, _ = sent[labelInternal].(bool)
	o.network.IPv6, _ = sent[labelIPv6].(bool)
	pairs, err := genericPairs(sent[labelGeneric])
	if err != nil {
		return options{}, err
	}
	known := setters()
	for _, key := range slices.Sorted(maps.Keys(pairs)) {
		set, ok := known[key]
		if !ok {
			return options{}, fmt.Errorf("option %q is not known; known are %s",
				key, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := set(&o, pairs[key]); err != nil {
			return options{}, fmt.Errorf("option %s=%q %w", key, pairs[key], err)
		}
	}
	delete(pairs, fabric.OptionNetwork) // it tells which network, not what it is
	o.network.Options = pairs
	if o.network.Mode == "" {
		o.network.Mode = fabric.ModeVXLAN
	}
	return o, o.validate()
}

func genericPairs(sent any) (map[string]string, error) {
	generic, ok := sent.(map[string]any)
	if !ok && sent != nil {
		return nil, fmt.Errorf("options under %s are not a map", labelGeneric)
	}
	pairs := make(map[string]string, len(generic))
	for key, value := range generic {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("option %q must be a text", key)
		}
		pairs[key] = text
	}
	return pairs, nil
}

// validate refuses options that mean nothing in the chosen mode: an option that has no
// effect must not go unnoticed.
func (o options) validate() error {
	n := o.network
	for _, pair := range []struct {
		option string
		set    bool
		mode   fabric.Mode
	}{
		{"tunnel", n.Tunnel != "", fabric.ModeOVS},
		{"via", n.Via != "", fabric.ModeRouted},
		{"block", n.Block != 0, fabric.ModeRouted},
		{"parent", n.Parent != "", fabric.ModeUnderlay},
		{"bridge", n.Bridge != "", fabric.ModeUnderlay},
		{"vlan", n.VLAN != 0, fabric.ModeUnderlay},
	} {
		if pair.set && n.Mode != pair.mode {
			return fmt.Errorf("option %s is for mode=%s, and this network has mode=%s", pair.option, pair.mode, n.Mode)
		}
	}
	if err := validateEncryption(n); err != nil {
		return err
	}
	if !n.Mode.HasVNI() && n.VNI != 0 {
		return fmt.Errorf("option vni is not for mode=%s: such a network has no VNI of its own", n.Mode)
	}
	if n.Mode == fabric.ModeUnderlay && n.Parent == "" && n.Bridge == "" && o.join == "" {
		return fmt.Errorf("mode=%s needs the option parent (the host's interface) or bridge", n.Mode)
	}
	if err := validatePorts(n); err != nil {
		return err
	}
	if n.VLAN != 0 && n.Parent == "" {
		return fmt.Errorf("option vlan needs the option parent")
	}
	if err := o.validateGateway(); err != nil {
		return err
	}
	if n.MTU != 0 && n.IPv6 && n.MTU < fabric.MinMTU6 {
		return fmt.Errorf("option mtu must be at least %d on an IPv6 network (RFC 8200)", fabric.MinMTU6)
	}
	return nil
}

// validateEncryption refuses it where packets cannot be led through WireGuard.
func validateEncryption(n fabric.Network) error {
	switch {
	case !n.Encrypted:
		return nil
	case n.Mode == fabric.ModeUnderlay:
		return fmt.Errorf("option encrypted is not for mode=%s, where nothing is tunnelled: use mode=%s, mode=%s or mode=%s", n.Mode, fabric.ModeVXLAN, fabric.ModeOVS, fabric.ModeRouted)
	case n.Tunnel != "" && n.Tunnel != "vxlan":
		return fmt.Errorf("options encrypted and tunnel=%s exclude each other: what is encrypted goes through the kernel's VXLAN", n.Tunnel)
	case n.Via == fabric.ViaDirect:
		return fmt.Errorf("options encrypted and via=%s exclude each other: what is encrypted goes through a tunnel between the hosts", fabric.ViaDirect)
	}
	return nil
}

// validateGateway refuses what has no effect without a gateway of the network's own.
func (o options) validateGateway() error {
	why := ""
	switch n := o.network; {
	case n.Mode == fabric.ModeUnderlay:
		why = "the gateway is the physical network's router"
	case n.Internal:
		why = "an internal network has no gateway"
	}
	for _, option := range []string{"gateway", "masquerade", "host-access"} {
		_, set := o.network.Options[option]
		if set && why == "" && option != "gateway" && o.network.DockerGateway {
			why = "with gateway=docker it is Docker's"
		}
		if set && why != "" {
			return fmt.Errorf("option %s has no effect here: %s", option, why)
		}
	}
	return nil
}
