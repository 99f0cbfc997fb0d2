package scale

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/test/bench/report"
)

// The networks of TestFull, by their number, each a /16.
const (
	emptyNet = iota
	fullNet
)

func wide(number int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(200 + number), 0, 0}), 16)
}

// TestFull compares an attach to a network with many addresses and endpoints with one to
// an empty network, in turns.
func TestFull(t *testing.T) {
	addresses, endpoints, repeat := sized(50_000, 300), sized(10_000, 100), sized(200, 5)
	out := &section{report.Section{
		ID: "full", Title: "A full network", Rows: []report.Row{{Name: "empty"}, {Name: "full"}},
		Intro: fmt.Sprintf("RequestAddress, CreateEndpoint and Join on a network with %d addresses in its pool, given out to four hosts, and %d endpoints, and on an empty one, in turns.", addresses, endpoints),
	}}
	ctx, dir := t.Context(), t.TempDir()
	etcd, err := startEtcd(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.end(t)
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{etcd.url}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := fillTwo(ctx, store); err != nil {
		t.Fatal(err)
	}
	if err := populate(ctx, store, networkID(fullNet), endpoints); err != nil {
		t.Fatal(err)
	}
	running := make([]*agent, 4)
	defer func() {
		if err := stopAll(running); err != nil {
			t.Error(err)
		}
	}()
	for n := range running {
		if running[n], err = startAgent(etcd.url, dir, n, newArrivals()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the first has both networks", func() bool { return running[0].plane.has(2) })
	began := time.Now()
	if err := takeAddresses(ctx, running, records.PoolID(records.DefaultSpace, wide(fullNet)), addresses); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d addresses took %v", addresses, time.Since(began).Round(time.Millisecond))
	times := make(map[int][]time.Duration)
	for n := range repeat {
		for _, number := range []int{emptyNet, fullNet} {
			took, err := attachOnce(ctx, running[0], number, n)
			if err != nil {
				t.Fatal(err)
			}
			times[number] = append(times[number], took)
		}
	}
	for number, row := range map[int]string{emptyNet: "empty", fullNet: "full"} {
		out.add(row, "full-attach", "attach, p50", "ms", milliseconds(times[number], 0.5))
		out.add(row, "full-attach-p99", "attach, p99", "ms", milliseconds(times[number], 0.99))
	}
	out.add("full", "full-ratio", "p50, full ÷ empty", "×", milliseconds(times[fullNet], 0.5)/milliseconds(times[emptyNet], 0.5))
	keep(t, out)
}

// fillTwo records both networks, with four hosts on each, and an endpoint of the first host
// that stays.
func fillTwo(ctx context.Context, store kvstore.Store) error {
	r := records.Records{Store: store, Host: "maker"}
	for _, number := range []int{emptyNet, fullNet} {
		id, _, err := r.RequestPool(ctx, records.PoolRequest{Space: records.DefaultSpace, Prefix: wide(number)})
		if err != nil {
			return err
		}
		made := fabric.Network{
			ID: networkID(number), Name: networkID(number), Mode: fabric.ModeVXLAN, IPAM: fabric.IPAM{Driver: "causeway"},
			Subnets: []fabric.Subnet{{Pool: id, Prefix: wide(number)}},
		}
		if err := r.CreateNetwork(ctx, made, records.Attaching{DockerID: dockerID(9999, number)}, func(fabric.Network) error { return nil }); err != nil {
			return err
		}
		stays := far(networkID(number), 300_000)
		stays.Host = hostOf(0).Name
		if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.EndpointKey(stays.Network, stays.ID), stays)}}); err != nil {
			return err
		}
		for host := range 4 {
			name := hostOf(host).Name
			if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{
				kvstore.Put(records.AttachmentKey(name, dockerID(host, number)), records.Attachment{Network: networkID(number)}),
				kvstore.Put(records.MemberKey(networkID(number), name), records.Member{Mirror: true}),
			}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// takeAddresses has the agents give out so many addresses of a pool.
func takeAddresses(ctx context.Context, running []*agent, pool string, count int) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, a := range running {
		group.Go(func() error {
			for range count / len(running) {
				if _, err := call[ipam.RequestAddressResponse](ctx, a, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: pool}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// attachOnce is the n-th attach to a network, and its detach, which is not timed.
func attachOnce(ctx context.Context, a *agent, number, n int) (time.Duration, error) {
	pool, id, endpoint := records.PoolID(records.DefaultSpace, wide(number)), dockerID(0, number), endpointID(0, 2_000_000+n)
	began := time.Now()
	given, err := call[ipam.RequestAddressResponse](ctx, a, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: pool})
	if err != nil {
		return 0, err
	}
	if _, err := call[network.CreateEndpointResponse](ctx, a, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: id, EndpointID: endpoint, Interface: &network.EndpointInterface{Address: given.Address},
	}); err != nil {
		return 0, err
	}
	if _, err := call[network.JoinResponse](ctx, a, "NetworkDriver.Join", network.JoinRequest{NetworkID: id, EndpointID: endpoint}); err != nil {
		return 0, err
	}
	took := time.Since(began)
	if _, err := call[struct{}](ctx, a, "NetworkDriver.Leave", network.LeaveRequest{NetworkID: id, EndpointID: endpoint}); err != nil {
		return 0, err
	}
	if _, err := call[struct{}](ctx, a, "NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: id, EndpointID: endpoint}); err != nil {
		return 0, err
	}
	address, _, _ := strings.Cut(given.Address, "/")
	_, err = call[struct{}](ctx, a, "IpamDriver.ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: pool, Address: address})
	return took, err
}
