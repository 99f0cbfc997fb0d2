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
	starting   map[string]*container // those that have an address
	life       int                   // counts the engine's deaths
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
	err = errDied
	if e.take(c, life) {
		err = e.enter(ctx, a, c, life)
	}
	if err == nil && time.Since(begun) > grace/2 {
		e.ledger.did("slow starts")
	}
	if errors.Is(err, errDied) {
		return err
	}
	if err != nil {
		e.drop(c)
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
		if !e.allocate(addr) {
			continue
		}
		c.addr = addr
		if err = e.enter(ctx, a, c, life); err == nil {
			return nil
		}
		if !e.unallocate(addr, life) || !strings.Contains(err.Error(), "in use") {
			return err
		}
	}
	return err
}

func (e *engine) allocate(addr netip.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.allocated[addr] {
		return false
	}
	e.allocated[addr] = true
	return true
}

// unallocate gives an address back, unless the engine died: then it may be another's.
func (e *engine) unallocate(addr netip.Addr, life int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life == life {
		delete(e.allocated, addr)
	}
	return e.life == life
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
	if c.own && !e.take(c, life) {
		return errDied
	}
	_, err = call[network.JoinResponse](ctx, a, "NetworkDriver.Join", &network.JoinRequest{NetworkID: dockerID, EndpointID: c.endpoint})
	if !e.keep(c, life, err) {
		return errDied // it does nothing any more
	}
	if err != nil {
		e.gone(c)
		_, failed := call[nothing](ctx, a, "NetworkDriver.DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID, EndpointID: c.endpoint})
		return errors.Join(err, failed)
	}
	return nil
}

var errDied = errors.New("the engine died")

// take notes that the container has its address, unless the engine died meanwhile: what a
// dead one was told is nobody's.
func (e *engine) take(c *container, life int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life != life {
		return false
	}
	e.ledger.take(c.on.id, c.addr, c.endpoint)
	e.starting[c.endpoint] = c
	return true
}

// drop notes that the container has its address no more.
func (e *engine) drop(c *container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.starting, c.endpoint)
	e.ledger.drop(c.on.id, c.addr, c.endpoint)
}

// keep has the container run, unless err says that it could not join; false says that the
// engine died meanwhile.
func (e *engine) keep(c *container, life int, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.life != life {
		e.gone(c)
		return false
	}
	delete(e.starting, c.endpoint)
	if err == nil {
		e.containers[c.endpoint] = c
	} else {
		e.ledger.drop(c.on.id, c.addr, c.endpoint)
	}
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
	a, life := e.agent, e.life
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
		e.unallocate(c.addr, life)
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
	for id, c := range e.starting {
		e.ledger.drop(c.on.id, c.addr, id)
		delete(e.starting, id)
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
