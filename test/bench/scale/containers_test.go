package scale

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"golang.org/x/sync/errgroup"
)

// change has endpoints come and go for the period, and gives how long each took to come.
func change(t *testing.T, s size, running []*agent, arrived *arrivals) []time.Duration {
	ctx := t.Context()
	took := make(chan time.Duration, 1<<20)
	group, sharing := errgroup.Group{}, s.sharing()
	tick := time.NewTicker(2 * time.Second / time.Duration(*churn)) // each is two changes
	defer tick.Stop()
	for n, end := 0, time.Now().Add(*period); time.Now().Before(end); n++ {
		<-tick.C
		group.Go(func() error {
			host := n * 7919 % len(running)
			mine := s.networksOf(host)
			number := mine[n%len(mine)]
			others := slices.DeleteFunc(slices.Clone(sharing[number]), func(name string) bool { return name == running[host].Name })
			c := container{running[host], number, dockerID(host, number), endpointID(host, 1_000_000+n)}
			came, err := c.live(ctx, arrived, others)
			took <- came
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	close(took)
	var times []time.Duration
	for d := range took {
		times = append(times, d)
	}
	return times
}

// container is one that comes and goes.
type container struct {
	*agent
	number   int // of its network
	network  string
	endpoint string
}

// live is its life, as Docker tells it. It gives how long it took to come.
func (c container) live(ctx context.Context, arrived *arrivals, others []string) (time.Duration, error) {
	began := time.Now()
	given, err := call[ipam.RequestAddressResponse](ctx, c.agent, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: poolID(c.number)})
	if err != nil {
		return 0, err
	}
	arrived.expect(c.endpoint, others)
	if _, err := call[network.CreateEndpointResponse](ctx, c.agent, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: c.network, EndpointID: c.endpoint, Interface: &network.EndpointInterface{Address: given.Address},
	}); err != nil {
		return 0, err
	}
	if _, err := call[network.JoinResponse](ctx, c.agent, "NetworkDriver.Join", network.JoinRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return 0, err
	}
	took := time.Since(began)
	wait(ctx, time.Second)
	if _, err := call[struct{}](ctx, c.agent, "NetworkDriver.Leave", network.LeaveRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return took, err
	}
	if _, err := call[struct{}](ctx, c.agent, "NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: c.network, EndpointID: c.endpoint}); err != nil {
		return took, err
	}
	address, _, _ := strings.Cut(given.Address, "/")
	_, err = call[struct{}](ctx, c.agent, "IpamDriver.ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: poolID(c.number), Address: address})
	return took, err
}
