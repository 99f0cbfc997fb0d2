package hammer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// ledger is who was told that he has an address: two at once is what must not be.
type ledger struct {
	mu     sync.Mutex
	owners map[string]string // by network and address
	faults []string
	count  map[string]int // what was done, by its name
}

func (l *ledger) take(network string, addr netip.Addr, owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := network + " " + addr.String()
	if other := l.owners[key]; other != "" {
		l.faults = append(l.faults, fmt.Sprintf("%s was given to %s and is %s's", key, owner, other))
	}
	l.owners[key] = owner
}

func (l *ledger) drop(network string, addr netip.Addr, owner string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := network + " " + addr.String(); l.owners[key] == owner {
		delete(l.owners, key)
	}
}

func (l *ledger) did(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count[what]++
}

// subnet is a network of the cluster as the engines know it.
type subnet struct {
	name   string
	id     string // the network's, of the cluster; empty before it is created
	prefix netip.Prefix
	pool   string // the IPAM's ID of the pool
}

// container is one that runs.
type container struct {
	on       *subnet
	endpoint string
	addr     netip.Addr
	own      bool // by the engine's own allocator
}

// engine is a host's Docker, and what outlives its causeway.
type engine struct {
	n       int
	kernel  *hosttest.Plane
	ledger  *ledger
	store   kvstore.Store
	subnets []*subnet
	// own is the subnet that this engine's own allocator shares, nil for none.
	own *subnet

	mu         sync.Mutex // guards what follows
	agent      *agent
	mortal     *mortal
	allocated  map[netip.Addr]bool // by the own allocator
	containers map[string]*container
	life       int // counts the engine's deaths
}

// dockerID is what the engine calls a network.
func (e *engine) dockerID(s *subnet) string {
	return strings.Repeat(fmt.Sprint("e", e.n, s.name), 64)[:64]
}

func (e *engine) current() (*agent, int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.agent, e.life
}

// awaitAgent waits until an agent runs.
func (e *engine) awaitAgent() {
	running := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.mortal != nil && !e.mortal.killed()
	}
	for !running() {
		time.Sleep(time.Millisecond)
	}
}

// start starts a container on a network, as an engine does, and undoes what was done
// where a step fails.
func (e *engine) start(ctx context.Context, on *subnet, endpoint string) error {
	a, life := e.current()
	c := &container{on: on, endpoint: endpoint, own: on == e.own}
	begun := time.Now()
	if c.own {
		return e.startOwn(ctx, a, c, life)
	}
	given, err := call[ipam.RequestAddressResponse](ctx, a, "IpamDriver.RequestAddress", &ipam.RequestAddressRequest{PoolID: on.pool})
	if err != nil {
		return err
	}
	c.addr = netip.MustParsePrefix(given.Address).Addr()
	e.ledger.take(on.id, c.addr, endpoint)
	err = e.enter(ctx, a, c, life)
	if err == nil && time.Since(begun) > grace/2 {
		e.ledger.did("slow starts")
	}
	if err != nil {
		e.ledger.drop(on.id, c.addr, endpoint)
		_, failed := call[nothing](ctx, a, "IpamDriver.ReleaseAddress", &ipam.ReleaseAddressRequest{PoolID: on.pool, Address: c.addr.String()})
		return errors.Join(err, failed)
	}
	return nil
}

// startOwn takes the lowest address that this engine thinks is free, and the next where
// another host has it.
func (e *engine) startOwn(ctx context.Context, a *agent, c *container, life int) error {
	first, last := records.Bounds(c.on.prefix)
	var err error
	for addr := range records.Addrs(first.Next(), last, false) { // the first is the gateway
		e.mu.Lock()
		taken := e.allocated[addr]
		e.allocated[addr] = true
		e.mu.Unlock()
		if taken {
			continue
		}
		c.addr = addr
		if err = e.enter(ctx, a, c, life); err == nil {
			return nil
		}
		e.mu.Lock()
		delete(e.allocated, addr)
		e.mu.Unlock()
		if !strings.Contains(err.Error(), "in use") {
			return err
		}
	}
	return err
}

// enter creates the container's endpoint and joins it.
func (e *engine) enter(ctx context.Context, a *agent, c *container, life int) error {
	address := netip.PrefixFrom(c.addr, c.on.prefix.Bits()).String()
	dockerID := e.dockerID(c.on)
	_, err := call[network.CreateEndpointResponse](ctx, a, "NetworkDriver.CreateEndpoint", &network.CreateEndpointRequest{
		NetworkID: dockerID, EndpointID: c.endpoint, Interface: &network.EndpointInterface{Address: address},
	})
	if err != nil {
		return err
	}
	if c.own {
		e.ledger.take(c.on.id, c.addr, c.endpoint)
	}
	_, err = call[network.JoinResponse](ctx, a, "NetworkDriver.Join", &network.JoinRequest{NetworkID: dockerID, EndpointID: c.endpoint})
	if err == nil && !e.keep(c, life) {
		return errors.New("the engine died")
	}
	if err != nil {
		e.ledger.drop(c.on.id, c.addr, c.endpoint)
		e.gone(c)
		_, failed := call[nothing](ctx, a, "NetworkDriver.DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID, EndpointID: c.endpoint})
		return errors.Join(err, failed)
	}
	return nil
}

// keep has the container run, unless the engine died meanwhile.
func (e *engine) keep(c *container, life int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life != life {
		e.ledger.drop(c.on.id, c.addr, c.endpoint)
		e.gone(c)
		return false
	}
	e.containers[c.endpoint] = c
	return true
}

// gone has the kernel take the container's link.
func (e *engine) gone(c *container) {
	e.kernel.Set(func(s *hosttest.State) { delete(s.Living, c.endpoint); delete(s.Plugged, c.endpoint) })
}

// stopAny stops one of the containers; false says that there is none.
func (e *engine) stopAny(ctx context.Context) (stopped bool, err error) {
	e.awaitAgent()
	e.mu.Lock()
	a := e.agent
	var c *container
	for _, c = range e.containers { // any
		break
	}
	if c != nil {
		delete(e.containers, c.endpoint)
	}
	e.mu.Unlock()
	if c == nil {
		return false, nil
	}
	e.gone(c)
	e.ledger.drop(c.on.id, c.addr, c.endpoint)
	_, err = call[nothing](ctx, a, "NetworkDriver.DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: e.dockerID(c.on), EndpointID: c.endpoint})
	if c.own {
		e.mu.Lock()
		delete(e.allocated, c.addr)
		e.mu.Unlock()
		return true, err
	}
	_, failed := call[nothing](ctx, a, "IpamDriver.ReleaseAddress", &ipam.ReleaseAddressRequest{PoolID: c.on.pool, Address: c.addr.String()})
	return true, errors.Join(err, failed)
}

// die takes the engine's containers away, and tells nobody.
func (e *engine) die() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.life++
	for id, c := range e.containers {
		e.ledger.drop(c.on.id, c.addr, id)
		e.gone(c)
		delete(e.containers, id)
	}
	clear(e.allocated)
}

// run keeps an agent running until ctx ends: it starts another where one was killed,
// and kills each after a number of operations of its store that random draws.
func (e *engine) run(ctx context.Context, t testing.TB, random *rand.Rand, operations int) {
	for ctx.Err() == nil {
		m := newMortal(e.store, 1+random.IntN(operations), random.IntN(2) == 0)
		a := startAgent(t, m, e.n, e.kernel)
		e.mu.Lock()
		e.agent, e.mortal = a, m
		e.mu.Unlock()
		select {
		case <-m.dead:
			e.ledger.did("agents killed")
		case <-ctx.Done():
		}
		a.stop()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.agent, e.mortal = nil, nil
}
