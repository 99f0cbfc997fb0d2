package ipam

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/causeway-net/causeway/records"
)

// optionSpace is --ipam-opt space=NAME: pools of different spaces may overlap.
const optionSpace = "space"

// labelDocker begins the options that an engine adds by itself.
const labelDocker = "com.docker."

// The length of a subnet that the user does not give.
const (
	pickedBits4 = 24
	pickedBits6 = 64
)

// decodePool reads a RequestPool; within is the part of the pool that addresses
// are picked from (--ip-range), zero for all.
func decodePool(r *ipam.RequestPoolRequest) (want records.PoolRequest, within netip.Prefix, err error) {
	want = records.PoolRequest{Space: records.DefaultSpace, Global: r.AddressSpace == globalSpace}
	if r.AddressSpace != localSpace && r.AddressSpace != globalSpace {
		return want, within, fmt.Errorf("address space %q is not causeway's: it has %s and %s", r.AddressSpace, localSpace, globalSpace)
	}
	if err := decodePoolOptions(r.Options, &want); err != nil {
		return want, within, err
	}
	if want.Prefix, err = decodePrefix(r.Pool, r.V6); err != nil || r.SubPool == "" {
		return want, within, err
	}
	if within, err = netip.ParsePrefix(r.SubPool); err != nil {
		return want, within, fmt.Errorf("range %q is not a CIDR", r.SubPool)
	}
	within = within.Masked()
	if r.Pool == "" || within.Bits() < want.Prefix.Bits() || !want.Prefix.Contains(within.Addr()) {
		return want, within, fmt.Errorf("range %s is not inside the subnet %s", within, want.Prefix)
	}
	return want, within, nil
}

func decodePoolOptions(options map[string]string, want *records.PoolRequest) error {
	for _, option := range slices.Sorted(maps.Keys(options)) {
		value := options[option]
		switch {
		case option == labelType, strings.HasPrefix(option, labelDocker):
			// swarm's leader hands on its own
		case option != optionSpace:
			return fmt.Errorf("IPAM option %q is not known; known is %s", option, optionSpace)
		case !regexp.MustCompile(`^[a-z0-9][a-z0-9_.]{0,62}$`).MatchString(value):
			return fmt.Errorf("IPAM option %s=%q must be a word of small letters, digits, dots and underscores", option, value)
		default:
			want.Space = value
		}
	}
	return nil
}

// decodePrefix reads the pool that Docker wants; "" is any.
func decodePrefix(text string, v6 bool) (netip.Prefix, error) {
	if text == "" && v6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), pickedBits6), nil
	}
	if text == "" {
		return netip.PrefixFrom(netip.IPv4Unspecified(), pickedBits4), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("subnet %q is not a CIDR", text)
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("subnet %s is IPv4 written as IPv6: write it as IPv4", prefix)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("subnet %s has bits behind its length: write %s", prefix, prefix.Masked())
	case prefix.Bits() == 0:
		return prefix, fmt.Errorf("subnet %s holds every address", prefix)
	case v6 && prefix.Addr().Is4():
		return prefix, fmt.Errorf("subnet %s is asked for as IPv6 and is not", prefix)
	}
	return prefix, nil
}

// poolID is what Docker calls a pool by: the record, who asked, and the range.
type poolID struct {
	key    string
	global bool
	within netip.Prefix
}

const globalMark = "global:"

func (p poolID) String() string {
	text := p.key
	if p.global {
		text = globalMark + text
	}
	if p.within.IsValid() {
		text += "/" + p.within.String()
	}
	return text
}

func parsePoolID(text string) (poolID, error) {
	var p poolID
	text, p.global = strings.CutPrefix(text, globalMark)
	key, within, ranged := strings.Cut(text, "/")
	p.key = key
	if !ranged {
		return p, nil
	}
	var err error
	if p.within, err = netip.ParsePrefix(within); err != nil {
		return p, fmt.Errorf("pool %q is not one of causeway's", text)
	}
	return p, nil
}
