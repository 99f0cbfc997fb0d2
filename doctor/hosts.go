package doctor

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/causeway-net/causeway/internal/nl"
)

// vtep looks whether this host still has the address that tunnels to it end at.
func vtep(_ context.Context, in *Inputs) ([]Finding, error) {
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	vtep := in.Host.VTEP
	addresses, err := host.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list this host's addresses: %w", err)
	}
	var others []string
	for _, address := range addresses {
		addr := nl.Addr(address.IP)
		if addr == vtep.Unmap() {
			return narrowed(host, address.LinkIndex, in.Host.MTU)
		}
		if addr.IsGlobalUnicast() && addr.Is4() == vtep.Unmap().Is4() {
			others = append(others, addr.String())
		}
	}
	return []Finding{{
		Severity: Problem, Scope: thisHost, Cause: fmt.Sprintf("This host has lost its VTEP %s: tunnels from other hosts end nowhere.", vtep),
		Evidence: "it has the addresses " + strings.Join(others, ", ") + " (ip addr)",
		Remedy:   "Give the host that address again, or start causeway again so that it takes the new one (--vtep says which).",
	}}, nil
}

// narrowed is that the VTEP's NIC takes less than the cluster plans with.
func narrowed(host *nl.Handle, index, mtu int) ([]Finding, error) {
	link, err := host.LinkByIndex(index)
	if err != nil {
		return nil, fmt.Errorf("find the VTEP's NIC: %w", err)
	}
	have := link.Attrs()
	if have.MTU >= mtu {
		return nil, nil
	}
	return []Finding{{
		Severity: Problem, Scope: thisHost, Cause: fmt.Sprintf("The MTU of %s, which has the VTEP, was lowered: large packets to other hosts are lost or fragmented.", have.Name),
		Evidence: fmt.Sprintf("it is %d, and was %d when causeway started (ip link show %s)", have.MTU, mtu, have.Name),
		Remedy:   fmt.Sprintf("Set it back (ip link set %s mtu %d), or start causeway again and make the networks anew.", have.Name, mtu),
	}}, nil
}

// sharedVTEPs are hosts with one address. This host's own are faults of its membership.
func sharedVTEPs(ctx context.Context, in *Inputs) ([]Finding, error) {
	r, err := in.Records(ctx)
	if err != nil {
		return nil, noRecords(err)
	}
	at := make(map[netip.Addr][]string)
	for key, host := range r.Hosts {
		if host.VTEP.IsValid() {
			at[host.VTEP.Unmap()] = append(at[host.VTEP.Unmap()], key)
		}
	}
	var found []Finding
	for _, vtep := range slices.SortedFunc(maps.Keys(at), netip.Addr.Compare) {
		keys := at[vtep]
		if len(keys) < 2 {
			continue
		}
		names := r.shown(keys)
		about := make([]string, 0, len(keys))
		for _, key := range slices.Sorted(slices.Values(keys)) {
			about = append(about, aboutHost(key))
		}
		found = append(found, Finding{
			Severity: Problem, Scope: "hosts " + strings.Join(names, ", "), About: about, Cause: fmt.Sprintf("%d hosts have the VTEP %s: traffic to them is lost.", len(keys), vtep),
			Evidence: "causeway hosts lists " + strings.Join(names, " and ") + " with it",
			Remedy:   "Give each another --vtep; a host that is gone goes with causeway hosts rm NAME.",
		})
	}
	return found, nil
}

// deadHosts are those without a causeway that others have to reckon with.
func deadHosts(ctx context.Context, in *Inputs) ([]Finding, error) {
	r, err := in.Records(ctx)
	if err != nil {
		return nil, noRecords(err)
	}
	holds := make(map[string]int)
	for _, address := range r.Addresses {
		holds[address.Host]++
	}
	var found []Finding
	for _, key := range slices.Sorted(maps.Keys(r.Hosts)) {
		if _, alive := r.Alive[key]; alive || holds[key] == 0 {
			continue
		}
		name := r.Hosts[key].Shown()
		found = append(found, Finding{
			Severity: Warning, Scope: "host " + name, About: []string{aboutHost(key)}, Cause: fmt.Sprintf("causeway does not run on host %s, or it does not reach the store.", name),
			Evidence: fmt.Sprintf("it shows no sign of life, and holds %d addresses", holds[key]),
			Remedy:   fmt.Sprintf("Start causeway there (its containers keep their traffic meanwhile); if the host is gone for good: causeway hosts rm %s.", name),
		})
	}
	return found, nil
}

// versions are those of causeway on the hosts.
func versions(ctx context.Context, in *Inputs) ([]Finding, error) {
	r, err := in.Records(ctx)
	if err != nil {
		return nil, noRecords(err)
	}
	of := make(map[string][]string)
	for key, host := range r.Hosts {
		of[host.Version] = append(of[host.Version], key)
	}
	if len(of) < 2 {
		return nil, nil
	}
	var texts []string
	for _, version := range slices.Sorted(maps.Keys(of)) {
		texts = append(texts, fmt.Sprintf("%s on %s", version, few(r.shown(of[version]))))
	}
	return []Finding{{
		Severity: Warning, Scope: "the cluster", Cause: "The hosts run different versions of causeway.",
		Evidence: strings.Join(texts, ", "), Remedy: "Bring all hosts to one version; containers keep their traffic meanwhile.",
	}}, nil
}
