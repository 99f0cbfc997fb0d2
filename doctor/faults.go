package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/pause"
)

// remedies say what to do about the faults that the parts of causeway report, where the
// fault's own words do not end in it.
func remedies() map[health.Part]string {
	return map[health.Part]string{
		health.Store:       "See that most of the hosts that hold the store are up and reach one another (TCP --cluster-port and the next two), or that your etcd answers this host, and that its disk has room.",
		health.Records:     "Somebody wrote to the store past causeway: restore the record, or delete it and make the object again.",
		health.Membership:  "Give this host another name (--host-name) or VTEP (--vtep), or end the other host of the same.",
		health.Network:     "Do what the text says is missing; causeway tries again by itself.",
		health.Gateway:     "Remove the host's route, or make the network with another --subnet; its containers go out by docker_gwbridge meanwhile.",
		health.Prune:       "Nothing is lost by it; causeway tries again by itself.",
		health.Collect:     "Nothing is lost by it but the addresses of dead containers; causeway tries again by itself.",
		health.Engine:      "Start Docker, and give its socket as --docker-socket if it is another.",
		health.Plugin:      "Remove the managed plugin of that name, and install it under another alias than causeway.",
		health.Mirror:      "Remove or rename what is in the way on this engine; causeway tries again by itself.",
		health.Containers:  "Restart the container if it is not found by its name.",
		health.Displaced:   "Restart the containers: docker restart NAME.",
		health.Restart:     "Start the container: docker start NAME.",
		health.PutBack:     "Remove the containers that are configured for the network on the other hosts, then the network.",
		health.Names:       "See that the kernel has nf_tables and that --docker-socket leads to the engine; containers are asked for by address meanwhile.",
		health.Environment: "Change the setting as the text says, and start causeway again.",
		health.Filter:      "See that the kernel has nf_tables, and that no other program rewrites the table causeway-tunnels.",
		health.WireGuard:   "Load the kernel's module wireguard, and see that the interfaces cw-wg0 and cw-wg1 are nobody else's.",
		health.Key:         "Let the UDP port through from the hosts that the text names, and upgrade causeway where it is older; the key before is used meanwhile.",
		health.Certificate: "See that a host that holds the store answers at --cluster-port; a host whose certificate has expired joins again, with a new token.",
	}
}

// faults are what causeway's own parts have reported.
func faults(_ context.Context, in *Inputs) ([]Finding, error) {
	found := make([]Finding, 0, len(in.Faults))
	remedies := remedies()
	for _, fault := range in.Faults {
		found = append(found, Finding{
			Severity: Problem, Scope: thisHost, Cause: sentence(fault.Text),
			Evidence: fmt.Sprintf("causeway's part %q reports it since %s", fault.Part, fault.Since.Format(time.DateTime)),
			Remedy:   remedies[fault.Part],
		})
	}
	return found, nil
}

// drops are packets that this host's filter keeps out now: those of long ago are in
// "causeway status".
func drops(ctx context.Context, in *Inputs) ([]Finding, error) {
	if in.Drops == nil {
		return nil, nil
	}
	before, err := in.Drops()
	if err != nil {
		return nil, err
	}
	if err := pause.For(ctx, in.Timing.Again); err != nil {
		return nil, err
	}
	now, err := in.Drops()
	if err != nil {
		return nil, err
	}
	counted := make(map[string]uint64, len(before))
	for _, drop := range before {
		counted[drop.Reason] = drop.Packets
	}
	var found []Finding
	for _, drop := range now {
		if fresh := drop.Packets - counted[drop.Reason]; fresh > 0 {
			found = append(found, Finding{
				Severity: Warning, Scope: thisHost, Cause: "This host drops packets " + drop.Reason + ".",
				Evidence: fmt.Sprintf("%d in %s, %d since it booted (nft list table inet causeway-tunnels)", fresh, in.Timing.Again, drop.Packets),
				Remedy:   drop.Remedy,
			})
		}
	}
	return found, nil
}
