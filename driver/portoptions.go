package driver

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-net/causeway/fabric"
)

// portSetters are the options that say what containers may send, and how fast.
func portSetters() map[string]func(*options, string) error {
	return map[string]func(*options, string) error{
		"allow": func(o *options, v string) (err error) {
			o.network.Allow, err = parseFloating(v)
			return err
		},
		"spoofing": oneOf(func(o *options, v string) { o.network.Spoofing = v == "allow" }, "allow", "deny"),
		"broadcast-rate": func(o *options, v string) error {
			const most = 1_000_000
			if v == "none" {
				o.network.BroadcastRate = -1
				return nil
			}
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > most {
				return fmt.Errorf("must be a number of frames a second from 1 to %d, or none", most)
			}
			o.network.BroadcastRate = n
			return nil
		},
		"rate": func(o *options, v string) (err error) {
			o.network.Rate, err = parseRate(v)
			return err
		},
	}
}

// maxFloating is how many addresses may float on a network.
const maxFloating = 16

func parseFloating(list string) ([]netip.Addr, error) {
	var floating []netip.Addr
	for text := range strings.SplitSeq(list, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(text))
		if err != nil || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
			return nil, fmt.Errorf("must be a list of addresses such as 192.168.1.100,fd00::100")
		}
		floating = append(floating, addr.Unmap())
	}
	slices.SortFunc(floating, netip.Addr.Compare)
	floating = slices.Compact(floating)
	if len(floating) > maxFloating {
		return nil, fmt.Errorf("has more than %d addresses", maxFloating)
	}
	return floating, nil
}

// parseRate reads a rate as tc(8) writes it, in bits a second.
func parseRate(text string) (uint64, error) {
	const least, most = 64_000, 400_000_000_000
	for _, unit := range []struct {
		suffix string
		bits   uint64
	}{{"kbit", 1000}, {"mbit", 1_000_000}, {"gbit", 1_000_000_000}} {
		digits, ok := strings.CutSuffix(strings.ToLower(text), unit.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err == nil && n*unit.bits >= least && n*unit.bits <= most {
			return n * unit.bits, nil
		}
	}
	return 0, fmt.Errorf("must be from 64kbit to 400gbit, such as 100mbit")
}

// validatePorts refuses what would have no effect.
func validatePorts(n fabric.Network) error {
	if n.Spoofing && len(n.Allow) > 0 {
		return fmt.Errorf("option allow has no effect with spoofing=allow")
	}
	return nil
}
