package ui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/records"
)

// source is an agent whose records a test writes.
type source struct {
	changes   chan agent.Change
	diagnosis doctor.Diagnosis
	talk      []talk.Conversation
	deaf      bool   // it cannot tell of them
	sent      uint64 // bytes that were sent on the first network, which grow
}

func (s *source) Doctor(context.Context, agent.Whom) (doctor.Diagnosis, error) {
	return s.diagnosis, nil
}

func (s *source) Traffic(context.Context) (agent.Traffic, error) {
	s.sent += 1 << 20
	return agent.Traffic{Host: "host1", Networks: map[string]agent.Counters{"000000000001": {SentBytes: s.sent, SentPackets: s.sent >> 10}}, Containers: map[string]agent.Counters{
		"000000000001/" + fmt.Sprintf("%064x", 1): {ReceivedBytes: s.sent},
	}}, nil
}

func (s *source) Talk(context.Context) ([]talk.Conversation, error) {
	if s.deaf {
		return nil, errors.New("it is deaf")
	}
	return s.talk, nil
}

func (s *source) Follow(ctx context.Context, take func(agent.Change)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case change, open := <-s.changes:
			if !open {
				return errors.New("the agent has ended")
			}
			take(change)
		}
	}
}

// put writes records below a prefix; first, as all that there are.
func (s *source) put(t testing.TB, prefix string, first bool, values map[string]any) {
	t.Helper()
	change := agent.Change{Prefix: prefix, First: first, Put: map[string]json.RawMessage{}}
	for key, value := range values {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		change.Put[key] = text
	}
	s.changes <- change
}

// serve serves a page of a source until the test ends, and gives its address.
func serve(t testing.TB, s Source) string {
	t.Helper()
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(t.Output())
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, Config{Source: s, DoctorEvery: time.Minute, Log: logrus.NewEntry(logger)}, listener)
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String() + "/"
}

// cluster writes records of so many hosts and containers, each host with some on three of
// the networks.
func (s *source) cluster(t testing.TB, hosts, networks, containers int) {
	t.Helper()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	put := map[string]map[string]any{
		records.HostsPrefix: {}, records.AlivePrefix: {}, records.NetworksPrefix: {}, records.EndpointsPrefix: {}, records.AddressesPrefix: {},
	}
	hostKey := func(n int) string { return fmt.Sprintf("host%d", n+1) }
	for n := range hosts {
		put[records.HostsPrefix][hostKey(n)] = fabric.Host{Name: hostKey(n), VTEP: netip.AddrFrom4([4]byte{10, 99, byte(n / 250), byte(n%250 + 1)}), MTU: 1500, Version: "1.0"}
		if n != 6 {
			put[records.AlivePrefix][hostKey(n)] = records.Alive{Since: since}
		}
	}
	labels := []string{"web", "shop", "queue", "cache", "metrics", "mail", "build", "search"}
	for n := range networks {
		id, prefix := fmt.Sprintf("%012x", n+1), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + n), 0, 0}), 22)
		pool := records.PoolID("auto", prefix)
		gateway := netip.AddrFrom4([4]byte{10, byte(100 + n), 0, 1})
		put[records.NetworksPrefix][id] = fabric.Network{ID: id, Name: labels[n%len(labels)], Mode: fabric.ModeVXLAN, VNI: uint32(8000000 + n), Subnets: []fabric.Subnet{{Pool: pool, Prefix: prefix, Gateway: gateway}}}
		put[records.AddressesPrefix][pool+"/"+gateway.String()] = records.Address{Kind: records.KindGateway}
		put[records.AddressesPrefix][pool+"/"+netip.AddrFrom4([4]byte{10, byte(100 + n), 0, 77}).String()] = records.Freed(time.Now())
	}
	for n := range containers {
		host, network := n%hosts, (n%hosts+n/hosts%3)%networks
		addr := netip.AddrFrom4([4]byte{10, byte(100 + network), byte(n / networks / 200), byte(n/networks%200 + 2)})
		for at := n; ; at++ { // the next that is free
			key := records.PoolID("auto", netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + network), 0, 0}), 22)) + "/" + addr.String()
			if _, taken := put[records.AddressesPrefix][key]; !taken {
				id := fmt.Sprintf("%064x", n+1)
				name := fmt.Sprintf("%s-%d", labels[network%len(labels)], n+1)
				put[records.AddressesPrefix][key] = records.Address{Kind: records.KindEndpoint, Host: hostKey(host), Endpoint: id, Name: name}
				put[records.EndpointsPrefix][fmt.Sprintf("%012x/%s", network+1, id)] = fabric.Endpoint{
					ID: id, Network: fmt.Sprintf("%012x", network+1), Host: hostKey(host), Name: name, Names: []string{name},
					MAC: fabric.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)}, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 22)},
				}
				break
			}
			addr = addr.Next()
		}
	}
	for prefix, values := range put {
		s.put(t, prefix, true, values)
	}
}

// mesh has all hosts try each other, one of them with loss and one without an answer.
func mesh(hosts int) (d doctor.Diagnosis) {
	for from := range hosts {
		for to := range hosts {
			if from == to {
				continue
			}
			tunnel := doctor.Tunnel{
				From: fmt.Sprintf("host%d", from+1), To: fmt.Sprintf("host%d", to+1), Kind: "vxlan", Network: "web", Asked: 2, Answered: 2,
				RTT: time.Duration(150+(from*7+to*13)%40*40) * time.Microsecond,
			}
			switch {
			case to == 6:
				tunnel.Answered, tunnel.RTT = 0, 0
			case from == 2 && to == 4:
				tunnel.Answered = 1
			}
			d.Tunnels = append(d.Tunnels, tunnel)
		}
	}
	d.Findings = []doctor.Finding{
		{
			Host: "host1", Check: "tunnels", Severity: doctor.Problem, Scope: "the way to host host7", About: []string{"tunnel/host1/host7"},
			Cause: "Nothing comes back through the tunnel from host host7.", Evidence: "asked on network web, 10.99.0.7: no answer", Remedy: "Let UDP port 4789 through.",
		},
		{
			Host: "host3", Check: "pools", Severity: doctor.Warning, Scope: "network shop", About: []string{"network/000000000002"},
			Cause: "The subnet 10.101.0.0/22 of network shop is nearly full.", Evidence: "930 of its 1022 addresses are used", Remedy: "Remove containers.",
		},
	}
	return d
}
