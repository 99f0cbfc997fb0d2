package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// nearlyFull is how many of a hundred addresses are used where a pool is nearly full.
const nearlyFull = 90

// pools are those that are full, or nearly.
func pools(ctx context.Context, in *Inputs) ([]Finding, error) {
	r, err := in.Records(ctx)
	if err != nil {
		return nil, noRecords(err)
	}
	used := r.Used()
	var found []Finding
	for _, id := range slices.Sorted(maps.Keys(r.Networks)) {
		network := r.Networks[id]
		for _, subnet := range network.Subnets {
			taken := used[subnet.Pool]
			free := Free(subnet, taken)
			if free < 0 || taken*100 < nearlyFull*(taken+free) {
				continue
			}
			finding := Finding{
				Severity: Warning, Scope: "network " + network.Label(), About: []string{aboutNetwork(id)}, Cause: fmt.Sprintf("The subnet %s of network %s is nearly full.", subnet.Prefix, network.Label()),
				Evidence: fmt.Sprintf("%d of its %d addresses are used (causeway networks)", taken, taken+free),
				Remedy: "Remove containers that are not needed, or make a network with a larger --subnet and connect the containers to it; " +
					"addresses of hosts that are gone come back by causeway hosts rm NAME.",
			}
			if free == 0 {
				finding.Severity, finding.Cause = Problem, fmt.Sprintf("The subnet %s of network %s is full: no container starts on it.", subnet.Prefix, network.Label())
			}
			found = append(found, finding)
		}
	}
	return found, nil
}

// leakedAddresses are those of endpoints that there are not. The tables were read one
// after another, so each is looked up again.
func leakedAddresses(ctx context.Context, in *Inputs) ([]Finding, error) {
	r, err := in.Records(ctx)
	if err != nil {
		return nil, noRecords(err)
	}
	live := make(map[string]bool, len(r.Endpoints))
	for key := range r.Endpoints {
		_, id, _ := strings.Cut(key, "/")
		live[id] = true
	}
	networks := make(map[string]string) // by pool
	for id, network := range r.Networks {
		for _, subnet := range network.Subnets {
			networks[subnet.Pool] = id
		}
	}
	leaked := make(map[string][]string) // by network
	for _, key := range slices.Sorted(maps.Keys(r.Addresses)) {
		address := r.Addresses[key]
		pool, text, _ := strings.Cut(key, "/")
		if address.Kind == records.KindEndpoint && address.Endpoint != "" && !live[address.Endpoint] && networks[pool] != "" {
			gone, err := isLeaked(ctx, in.Store, networks[pool], key, address)
			if err != nil {
				return nil, err
			}
			if gone {
				leaked[networks[pool]] = append(leaked[networks[pool]], fmt.Sprintf("%s of host %s", text, r.Hosts[address.Host].Shown()))
			}
		}
	}
	var found []Finding
	for _, id := range slices.Sorted(maps.Keys(leaked)) {
		label := r.Networks[id].Label()
		found = append(found, Finding{
			Severity: Warning, Scope: "network " + label, About: []string{aboutNetwork(id)}, Cause: fmt.Sprintf("Addresses of network %s are held for containers that there are not.", label),
			Evidence: few(leaked[id]),
			Remedy:   "The host that holds them frees them within minutes while its causeway runs: start it, or causeway hosts rm NAME if it is gone.",
		})
	}
	return found, nil
}

// isLeaked says whether the address is still held, and its endpoint still not there.
func isLeaked(ctx context.Context, store kvstore.Store, network, key string, address records.Address) (bool, error) {
	claim, endpoint := records.AddressesPrefix+key, records.EndpointKey(network, address.Endpoint)
	now, err := store.GetAll(ctx, []string{claim, endpoint})
	if err != nil {
		return false, err
	}
	item, held := now.Items[claim]
	if _, lives := now.Items[endpoint]; !held || lives {
		return false, nil
	}
	again, err := kvstore.Decode[records.Address](item)
	return err == nil && again.Endpoint == address.Endpoint, nil
}
