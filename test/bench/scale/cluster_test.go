package scale

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// size is how large a cluster is.
type size struct {
	hosts     int
	agents    int // how many of the hosts run
	endpoints int // of each host
	networks  int // of the cluster
	on        int // networks that each host has
}

// shared is how many of the networks have hosts: ten on each, as far as there are networks.
func (s size) shared() int { return max(s.on, min(s.networks, s.hosts*s.on/10)) }

// networksOf are the numbers of a host's networks.
func (s size) networksOf(host int) []int {
	numbers := make([]int, s.on)
	for i := range numbers {
		numbers[i] = (host*s.on + i) % s.shared()
	}
	return numbers
}

// sharing are the agents that have a network, by its number.
func (s size) sharing() map[int][]string {
	names := make(map[int][]string)
	for host := range s.agents {
		for _, n := range s.networksOf(host) {
			names[n] = append(names[n], hostOf(host).Name)
		}
	}
	return names
}

func networkID(n int) string { return fmt.Sprintf("n%04d", n) }

// dockerID is that of a network in the engine of a host.
func dockerID(host, network int) string { return fmt.Sprintf("%032d%032d", host, network) }

// subnetOf is a /20; containers that come and go get addresses of its lower half, those
// that stay of the upper one.
func subnetOf(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 4), byte(n << 4), 0}), 20)
}

func endpointID(host, n int) string { return fmt.Sprintf("%032d%032d", host, n) }

func poolID(n int) string {
	return records.PoolID(records.DefaultSpace, subnetOf(n)) + "/" + netip.PrefixFrom(subnetOf(n).Addr(), 21).String()
}

// fill records the whole cluster, its hosts' records aside.
func fill(ctx context.Context, store kvstore.Store, s size) error {
	r := records.Records{Store: store, Host: "maker"}
	for n := range s.networks {
		id, _, err := r.RequestPool(ctx, records.PoolRequest{Space: records.DefaultSpace, Prefix: subnetOf(n)})
		if err != nil {
			return err
		}
		network := fabric.Network{
			ID: networkID(n), Name: networkID(n), Mode: fabric.ModeVXLAN, Subnets: []fabric.Subnet{{Pool: id, Prefix: subnetOf(n)}},
			IPAM: fabric.IPAM{Driver: "causeway"},
		}
		making := records.Attaching{DockerID: dockerID(9999, n)}
		if err := r.CreateNetwork(ctx, network, making, func(fabric.Network) error { return nil }); err != nil {
			return fmt.Errorf("network %d: %w", n, err)
		}
	}
	var ops []kvstore.Op
	placed := make(map[int]int) // endpoints by network
	for host := range s.hosts {
		name := hostOf(host).Name
		if host >= s.agents {
			ops = append(ops, kvstore.Put(records.HostKey(name), hostOf(host)))
		}
		networks := s.networksOf(host)
		for _, n := range networks {
			ops = append(ops,
				kvstore.Put(records.AttachmentKey(name, dockerID(host, n)), records.Attachment{Network: networkID(n)}),
				kvstore.Put(records.MemberKey(networkID(n), name), records.Member{Mirror: true}))
		}
		for e := range s.endpoints {
			n := networks[e%len(networks)]
			offset := 2048 + placed[n]%2000
			placed[n]++
			base := subnetOf(n).Addr().As4()
			base[2], base[3] = base[2]+byte(offset>>8), byte(offset)
			addr := netip.AddrFrom4(base)
			endpoint := fabric.Endpoint{
				ID: endpointID(host, e), Network: networkID(n), Host: name, MAC: fabric.DeriveMAC(networkID(n), addr),
				Addrs: []netip.Prefix{netip.PrefixFrom(addr, 20)}, Name: strings.Repeat("c", 10),
			}
			ops = append(ops, kvstore.Put(records.EndpointKey(networkID(n), endpoint.ID), endpoint))
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for batch := range slices.Chunk(ops, 100) {
		group.Go(func() error {
			_, err := store.Commit(ctx, kvstore.Txn{Then: batch})
			return err
		})
	}
	return group.Wait()
}
