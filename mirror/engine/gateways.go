package engine

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client/pkg/versions"
)

// plainGateways removes the prefix length from gateways: engines up to 24.0 append
// one to an IPv6 gateway that they allocated.
type plainGateways struct{ http.RoundTripper }

func (p plainGateways) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := p.RoundTripper.RoundTrip(request)
	if err != nil || request.Method != http.MethodGet || !networksPath(request.URL.Path) {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	body = regexp.MustCompile(`("Gateway":"[0-9a-fA-F.:]+)/\d+"`).ReplaceAll(body, []byte(`$1"`))
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

func networksPath(path string) bool {
	return regexp.MustCompile(`^/v[0-9.]+/networks(/|$)`).MatchString(path)
}

// apiShowsAllocated is the API version (engine 29.0) from which on the engine shows
// the gateways that it allocated like those that a user gave.
const apiShowsAllocated = "1.52"

// GatewayGiven says whether the user chose the gateway that the engine shows. An
// engine from 29.0 on shows allocated ones too, so the one that is allocated by
// default counts as not given there.
func (e *Engine) GatewayGiven(shown network.IPAMConfig) bool {
	return gatewayGiven(e.api.ClientVersion(), shown)
}

func gatewayGiven(apiVersion string, shown network.IPAMConfig) bool {
	if !shown.Gateway.IsValid() {
		return false
	}
	return versions.LessThan(apiVersion, apiShowsAllocated) || !slices.Contains(defaultGateways(shown), shown.Gateway)
}

// defaultGateways are the addresses of which Docker's IPAM, or causeway's,
// allocates one when no gateway is given: the lowest of the range or of the subnet.
func defaultGateways(shown network.IPAMConfig) []netip.Addr {
	var found []netip.Addr
	for _, prefix := range []netip.Prefix{shown.IPRange, shown.Subnet} {
		if prefix.IsValid() {
			lowest := prefix.Masked().Addr()
			found = append(found, lowest, lowest.Next())
		}
	}
	return found
}

// apiLocksNames is the API version of engine 25.0.
const apiLocksNames = "1.44"

// LocksNames says that the engine creates one network of a name at a time, as from
// 25.0 on.
func (e *Engine) LocksNames() bool {
	return !versions.LessThan(e.api.ClientVersion(), apiLocksNames)
}
