package test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/causeway-net/causeway/lab"
)

// powerFaults are those of a host that loses its power.
func (b *faultBed) powerFaults() []fault {
	twice, first, other := 2, b.host(2).Addrs()[0].Addr().String(), "10.99.0.202"
	return []fault{{
		name: "power lost, and back with another VTEP", hosts: []int{2}, cuts: true, long: true, did: &twice,
		inject: both(comesBackAt(2, other), stays(first)), heal: comesBackAt(2, first),
		left: func(b *faultBed) error { return b.mentions(other) },
	}}
}

// comesBackAt takes the power from a host, and gives it back when its NIC has another address.
func comesBackAt(n int, addr string) act {
	return func(b *faultBed) error {
		h := b.host(n)
		if err := b.losePower(h); err != nil {
			return err
		}
		b.gone(n) // a machine takes longer to boot than its lease lasts
		move := fmt.Sprintf("via=$(ip -4 route show default | cut -d' ' -f3) && ip -4 addr flush dev eth0 && "+
			"ip addr add %s/%d dev eth0 && ip route add default via $via", addr, h.Addrs()[0].Bits())
		if err := commands(n, move)(b); err != nil {
			return err
		}
		h.Causeway.(*lab.Daemon).Extra = []string{"--vtep", addr}
		return errors.Join(h.Causeway.Start(b.Context()), h.Docker.Start(b.Context()))
	}
}

// losePower ends all that runs on a host at once, and takes what its kernel had of causeway.
func (b *faultBed) losePower(h *host) error {
	for _, service := range []lab.Service{h.Docker, h.Causeway} {
		if err := service.Kill(b.Context()); err != nil {
			return err
		}
	}
	// What is listed may end before it is killed, and what is killed may have started something.
	containers := fmt.Sprintf("while pids=$(find /sys/fs/cgroup -path '*/causeway-lab/%s/%s/*' -name cgroup.procs -exec cat {} + 2>/dev/null) && [ \"$pids\" ]; do kill -9 $pids 2>/dev/null; done; true",
		b.lab.Name(), h.Name())
	for _, line := range []string{containers, "ip netns list | grep -o '^causeway-[^ ]*' | xargs -r -n1 ip netns delete", "nft flush ruleset"} {
		if _, err := h.try("sh", "-c", line); err != nil {
			return err
		}
	}
	return nil
}

// stays waits until the containers of all hosts reach each other, and nothing has an
// address any more that was a host's.
func stays(gone string) act {
	return func(b *faultBed) error {
		eventuallyWithin(b.T, collected, "nothing is left of "+gone, func() error { return b.mentions(gone) })
		for n := 1; n <= bedHosts; n++ {
			eventuallyWithin(b.T, healed, b.steady[n].name+" is reached", func() error {
				peer := n%bedHosts + 1
				addr, err := b.steadyHas(n, fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", bedNetwork))
				if err != nil {
					return err
				}
				pid, err := b.steadyHas(peer, "{{.State.Pid}}")
				if err != nil {
					return err
				}
				_, err = b.host(peer).try("nsenter", "--target", pid, "--net", "ping", "-c", "1", "-w", "2", addr)
				return err
			})
		}
		b.refresh()
		return nil
	}
}

// steadyHas is what the engine says of a steady container. It may have another address after
// each start.
func (b *faultBed) steadyHas(n int, format string) (string, error) {
	return b.host(n).try("docker", "inspect", "--format", format, b.steady[n].name)
}

// mentions says who has an address still: the kernels, the records, or the members of the store.
func (b *faultBed) mentions(addr string) error {
	word := regexp.MustCompile(`(^|[^0-9])` + regexp.QuoteMeta(addr) + `($|[^0-9])`)
	var found []error
	look := func(where, text string) {
		if line := word.FindString(text); line != "" {
			found = append(found, fmt.Errorf("%s has %s", where, addr))
		}
	}
	for n := 1; n <= bedHosts; n++ {
		for what, line := range map[string]string{
			"nftables": "nft list ruleset",
			"the FDB":  "ip -all netns exec bridge fdb show",
			"a route":  "ip route show table all",
			"status":   "causeway status",
			"hosts":    "causeway hosts --json",
		} {
			out, err := b.host(n).try("sh", "-c", line)
			found = append(found, err)
			look(fmt.Sprintf("%s of h%d", what, n), out)
		}
	}
	found = append(found, b.askEtcd(func(ctx context.Context, client *clientv3.Client) error {
		members, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, member := range members.Members {
			look("the store's member "+member.Name, fmt.Sprint(member.PeerURLs, member.ClientURLs))
		}
		all, err := client.Get(ctx, "", clientv3.WithPrefix())
		if err != nil {
			return err
		}
		for _, kv := range all.Kvs {
			look("the record "+string(kv.Key), string(kv.Value))
		}
		return nil
	}))
	return errors.Join(found...)
}

// askEtcd asks h1's member of the store itself, for ten seconds at most.
func (b *faultBed) askEtcd(ask func(context.Context, *clientv3.Client) error) error {
	h := b.host(1)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{"https://" + relay(b.cluster, h.PID(), "10.99.0.1:2379")}, TLS: h.trusts().Client(), Logger: zap.NewNop(),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	return ask(ctx, client)
}
