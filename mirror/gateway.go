package mirror

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// gatewayBridge is the network that the engine adds to each container whose other
// networks have no gateway (libnetwork's createGWNetwork), for the way out and for
// published ports.
const gatewayBridge = "docker_gwbridge"

// gatewaySubnet is the last of the subnets that engines pick by themselves
// (default-address-pools in dockerd's documentation).
const gatewaySubnet = "192.168.240.0/20"

// checkGateway creates docker_gwbridge before the engine does, and reports networks
// that have addresses of its subnet. The engine would give it the lowest subnet that is
// free here, such as 172.18.0.0/16, and another host's engine gives that one to a
// compose project: no container can start on that project's network here, because it
// would have one subnet on two links.
func (m *Mirror) checkGateway(ctx context.Context, s state) {
	index := slices.IndexFunc(s.local, func(n network.Network) bool { return n.Name == gatewayBridge })
	var err error
	if index >= 0 {
		err = overlapsGateway(s, s.local[index])
	} else if err = m.createGateway(ctx); err != nil {
		err = fmt.Errorf("network %s cannot be created: %w", gatewayBridge, err)
	}
	m.Board.Report(health.Scope{Part: health.Environment, Object: gatewayBridge}, err)
}

// createGateway creates docker_gwbridge as the engine does. Where the host or the engine
// uses its subnet already, the engine picks another.
func (m *Mirror) createGateway(ctx context.Context) error {
	options := client.NetworkCreateOptions{Driver: "bridge", Options: map[string]string{
		"com.docker.network.bridge.name":                 gatewayBridge,
		"com.docker.network.bridge.enable_icc":           "false",
		"com.docker.network.bridge.enable_ip_masquerade": "true",
	}}
	subnet := netip.MustParsePrefix(gatewaySubnet)
	var refused error
	if !onHost(subnet) {
		picked := options
		picked.IPAM = &network.IPAM{Config: []network.IPAMConfig{{Subnet: subnet}}}
		if _, refused = m.engine.Create(ctx, gatewayBridge, picked); refused == nil {
			return nil
		}
	}
	_, err := m.engine.Create(ctx, gatewayBridge, options)
	if err != nil {
		err = errors.Join(refused, err)
	}
	return err
}

// onHost says whether an interface of the host has an address of subnet.
func onHost(subnet netip.Prefix) bool {
	addresses, err := net.InterfaceAddrs()
	return err != nil || slices.ContainsFunc(addresses, func(address net.Addr) bool {
		prefix, err := netip.ParsePrefix(address.String())
		return err == nil && prefix.Overlaps(subnet)
	})
}

// overlapsGateway names the networks that no container can start on here.
func overlapsGateway(s state, gateway network.Network) error {
	var names []string
	for _, attachment := range s.attachments {
		cluster, known := s.networks[attachment.Network]
		if !known || cluster.Internal || cluster.Mode == fabric.ModeUnderlay {
			continue // the engine adds no gateway to it
		}
		for _, subnet := range cluster.Subnets {
			overlaps := func(config network.IPAMConfig) bool { return config.Subnet.Overlaps(subnet.Prefix) }
			if slices.ContainsFunc(gateway.IPAM.Config, overlaps) {
				names = append(names, fmt.Sprintf("%s (%s)", cluster.Label(), subnet.Prefix))
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("containers cannot start here on networks with addresses of this engine's %s: %s. Stop the containers that use %s and remove it with docker network rm: it is created again with another subnet",
		gatewayBridge, strings.Join(slices.Compact(names), ", "), gatewayBridge)
}
