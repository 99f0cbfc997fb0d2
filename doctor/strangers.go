package doctor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/nl"
)

// mostClaims is how many addresses are asked for at once; of more, some are picked anew each time.
const mostClaims = 64

// strangers asks on the LAN for the addresses of this host's containers of mode=underlay:
// nobody but the container may answer.
func strangers(ctx context.Context, in *Inputs) ([]Finding, error) {
	segments, err := in.segments(ctx)
	if err != nil {
		return nil, err
	}
	var own []claim
	for _, segment := range segments {
		if segment.Network.Mode != fabric.ModeUnderlay {
			continue
		}
		for _, endpoint := range segment.Local {
			for _, prefix := range endpoint.Addrs {
				own = append(own, claim{segment.Network, endpoint, prefix.Addr().Unmap()})
			}
		}
	}
	rand.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
	own = own[:min(len(own), mostClaims)]
	if len(own) == 0 {
		return nil, nil
	}
	host, err := nl.Open(in.HostNS)
	if err != nil {
		return nil, err
	}
	defer host.Close()
	var mu sync.Mutex
	var found []Finding
	group, ctx := errgroup.WithContext(ctx)
	for _, claim := range own {
		group.Go(func() error {
			others, err := claim.others(ctx, in, host)
			mu.Lock()
			defer mu.Unlock()
			if len(others) > 0 {
				found = append(found, claim.finding(others))
			}
			return err
		})
	}
	return found, group.Wait()
}

// claim is an address of a container here.
type claim struct {
	network  fabric.Network
	endpoint fabric.Endpoint
	addr     netip.Addr
}

// others are the MACs that answer for the address and are not the container's.
func (c claim) others(ctx context.Context, in *Inputs, host *nl.Handle) (others []string, err error) {
	link, err := host.Link(in.Device(c.network))
	if errors.Is(err, nl.ErrNotFound) {
		return nil, nil // the check of the NICs tells
	}
	if err == nil && link.Attrs().MasterIndex != 0 { // what comes to a port is its bridge's
		link, err = host.LinkByIndex(link.Attrs().MasterIndex)
	}
	if err != nil {
		return nil, err
	}
	holders, err := addrprobe.Holders(ctx, host.NS(), link, c.addr)
	for _, holder := range holders {
		if holder != c.endpoint.MAC {
			others = append(others, holder.String())
		}
	}
	return others, err
}

func (c claim) finding(others []string) Finding {
	return Finding{
		Severity: Problem, Scope: "network " + c.network.Label(), About: []string{aboutNetwork(c.network.ID)},
		Cause:    fmt.Sprintf("Another machine on the LAN answers for %s, the address of container %s: connections to it go astray.", c.addr, c.endpoint.Name),
		Evidence: fmt.Sprintf("the container has MAC %s, and %s answers, too", c.endpoint.MAC, few(others)),
		Remedy: fmt.Sprintf("Find the machine by its MAC (the switches' tables; arping %s), and give it another address; "+
			"keep DHCP servers and machines out of what containers get (--ip-range, --aux-address).", c.addr),
	}
}
