package driver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/fabric"
)

// decodeSubnets reads what Docker's IPAM, whichever it is, has settled. All of
// a network's subnets come from one IPAM; dockerIPAM says that it is not causeway's.
func decodeSubnets(request *network.CreateNetworkRequest) (subnets []fabric.Subnet, dockerIPAM bool, err error) {
	dockerIPAM = true
	for _, data := range slices.Concat(request.IPv4Data, request.IPv6Data) {
		subnet, err := decodeSubnet(data)
		if err != nil {
			return nil, false, err
		}
		subnets = append(subnets, subnet)
		dockerIPAM = dockerIPAM && !strings.HasPrefix(data.AddressSpace, "causeway.")
	}
	if len(subnets) == 0 {
		return nil, false, fmt.Errorf("the network has no subnet: give --subnet")
	}
	return subnets, dockerIPAM, nil
}

func decodeSubnet(data *network.IPAMData) (fabric.Subnet, error) {
	prefix, err := netip.ParsePrefix(data.Pool)
	if err != nil {
		return fabric.Subnet{}, fmt.Errorf("subnet %q is not a CIDR", data.Pool)
	}
	if prefix.Bits() == 0 {
		return fabric.Subnet{}, fmt.Errorf("subnet %s holds every address: --ipam-driver null is not supported, use causeway or none", prefix)
	}
	subnet := fabric.Subnet{Prefix: prefix.Masked()}
	if data.Gateway != "" {
		gateway, err := parseAddress(data.Gateway)
		if err != nil {
			return fabric.Subnet{}, fmt.Errorf("gateway of %s: %w", prefix, err)
		}
		subnet.Gateway = gateway.Addr()
	}
	for name, value := range data.AuxAddresses {
		text, _ := value.(string)
		address, err := parseAddress(text)
		if err != nil {
			return fabric.Subnet{}, fmt.Errorf("aux address %s of %s: %w", name, prefix, err)
		}
		if subnet.Aux == nil {
			subnet.Aux = make(map[string]netip.Addr)
		}
		subnet.Aux[name] = address.Addr()
	}
	return subnet, nil
}

// parseAddress reads an address with or without its prefix length; Docker sends both.
func parseAddress(text string) (netip.Prefix, error) {
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return prefix, nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address", text)
	}
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

func prefixesOf(subnets []fabric.Subnet) []netip.Prefix {
	prefixes := make([]netip.Prefix, 0, len(subnets))
	for _, subnet := range subnets {
		prefixes = append(prefixes, subnet.Prefix)
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return prefixes
}
