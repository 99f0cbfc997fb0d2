package scale

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/test/bench/report"
)

// TestLarge measures what one change costs an agent with a large network: the endpoints of
// others come and go in the records.
func TestLarge(t *testing.T) {
	count := sized(100_000, 500)
	row := "100,000 endpoints"
	if !whole() {
		row = fmt.Sprint(count, " endpoints")
	}
	out := &section{report.Section{
		ID: "large", Title: "One network of 100,000 endpoints", Rows: []report.Row{{Name: row}},
		Intro: "On 1,000 hosts, of which one has an agent here. Others' endpoints come and go in the records, one after the other; " +
			"what the process uses for the same changes to a network that the agent has not is taken off.",
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
	large, other := networkID(0), networkID(1)
	if err := fill(ctx, store, size{hosts: 1, agents: 1, networks: 2, on: 1, endpoints: 1}); err != nil {
		t.Fatal(err)
	}
	if err := populate(ctx, store, large, count); err != nil {
		t.Fatal(err)
	}
	arrived := newArrivals()
	a, err := startAgent(etcd.url, dir, 0, arrived)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has the network", func() bool { return a.plane.endpoints(large) > count })
	wait(ctx, time.Second) // what a start does in the background
	changes := sized(500, 20)
	own := ownCPU()
	if err := comeAndGo(ctx, store, other, changes); err != nil {
		t.Fatal(err)
	}
	harness := ownCPU() - own
	own = ownCPU()
	profiled(t, "large", func() { err = comeAndGo(ctx, store, large, changes) })
	if err != nil {
		t.Fatal(err)
	}
	last := far(large, 400_000)
	arrived.expect(last.ID, []string{a.Name})
	if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{kvstore.Put(records.EndpointKey(large, last.ID), last)}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all changes have come", func() bool { return arrived.waiting() == 0 })
	used := ownCPU() - own
	out.add(row, "change-cpu", "CPU of the agent for a change", "ms", 1000*(used-harness).Seconds()/float64(changes))
	out.add(row, "change-cpu-harness", "CPU of the harness for it, taken off", "ms", 1000*harness.Seconds()/float64(changes))
	resident, _ := rss()
	out.add(row, "large-memory", "memory of the process", "MiB", resident)
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	keep(t, out)
}

// far is an endpoint of another host.
func far(network string, n int) fabric.Endpoint {
	addr := netip.AddrFrom4([4]byte{10, byte(64 + n>>16), byte(n >> 8), byte(n)})
	return fabric.Endpoint{
		ID: endpointID(1+n%1000, n), Network: network, Host: hostOf(1 + n%1000).Name, MAC: fabric.DeriveMAC(network, addr),
		Addrs: []netip.Prefix{netip.PrefixFrom(addr, 8)}, Name: "cccccccccc",
	}
}

// populate records so many endpoints of other hosts, and these hosts.
func populate(ctx context.Context, store kvstore.Store, network string, count int) error {
	var ops []kvstore.Op
	for n := range min(1000, count) {
		ops = append(ops, kvstore.Put(records.HostKey(hostOf(1+n).Name), hostOf(1+n)))
	}
	for n := range count {
		e := far(network, n)
		ops = append(ops, kvstore.Put(records.EndpointKey(network, e.ID), e))
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

// comeAndGo has an endpoint come, and go with the next change: so slowly that none are taken in together.
func comeAndGo(ctx context.Context, store kvstore.Store, network string, changes int) error {
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for n := range changes {
		<-tick.C
		e := far(network, 200_000+n/2)
		op := kvstore.Put(records.EndpointKey(network, e.ID), e)
		if n%2 == 1 {
			op = kvstore.Delete(records.EndpointKey(network, e.ID))
		}
		if _, err := store.Commit(ctx, kvstore.Txn{Then: []kvstore.Op{op}}); err != nil {
			return err
		}
	}
	return nil
}
