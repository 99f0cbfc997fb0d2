package nicmove

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// transfer carries want from one device to another; want is in the terms of to.
type transfer struct {
	*kernel
	from, to device
	want     state
}

func (t transfer) run(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("move %s to %s: %w", t.from.name, t.to.name, err)
		}
	}
	return nil
}

// addAddresses gives to the addresses, while from still has them. IPv6 ones
// come without duplicate address detection, which would take a second and may
// see from's; and without a route, which would compete with from's: settle sets both right.
func (t transfer) addAddresses() error {
	there, err := t.read(t.to)
	if err != nil {
		return err
	}
	for _, a := range without(t.want.Addresses, there.Addresses) {
		if a.is6() {
			a = a.clone()
			flags := a.addressFlags() | unix.IFA_F_NOPREFIXROUTE
			if flags&unix.IFA_F_DADFAILED == 0 { // else it is another's
				flags |= unix.IFA_F_NODAD
			}
			a.setAddressFlags(flags)
		}
		if err := t.add(a, t.to, unix.NLM_F_EXCL); err != nil {
			return err
		}
	}
	if err := t.renew(there); err != nil {
		return err
	}
	return t.awaitLocal()
}

// renew gives to the lifetimes that a DHCP client set on from since.
func (t transfer) renew(there state) error {
	old, err := t.read(t.from)
	if err != nil {
		return err
	}
	moved := old.on(t.from, t.to).Addresses
	fresh := without(moved, there.Addresses)
	for _, a := range without(moved, fresh) {
		if a.isDynamic() {
			if err := t.add(a, t.to, unix.NLM_F_REPLACE); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitLocal waits until the kernel accepts packets for to's IPv6 addresses: it
// adds their local routes later, from a worker. Packets that come between from's
// end and that moment would be lost; if it does not come soon, they have to be.
func (t transfer) awaitLocal() error {
	const limit = time.Second
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < limit; <-tick.C {
		routes, err := t.dump(route, unix.AF_INET6)
		if err != nil {
			return err
		}
		local := make(map[string]bool)
		for _, r := range routes {
			if r.header[7] == unix.RTN_LOCAL && r.leaves(t.to.index) {
				local[string(r.get(unix.RTA_DST))] = true
			}
		}
		missing := func(a message) bool { return a.is6() && !local[string(a.get(unix.IFA_ADDRESS))] }
		if !slices.ContainsFunc(t.want.Addresses, missing) {
			return nil
		}
	}
	return nil
}

// moveRoutes adds all routes before it removes the first, those that others
// rest on first, and removes in reverse.
func (t transfer) moveRoutes() error {
	for _, n := range t.want.Neighbours {
		if err := t.add(n, t.to, unix.NLM_F_REPLACE); err != nil {
			return err
		}
	}
	if err := t.addRoutes(); err != nil {
		return err
	}
	old, err := t.read(t.from)
	if err != nil || t.from.index == 0 {
		return err
	}
	for _, r := range slices.Backward(old.Routes) {
		if err := t.remove(r, t.from); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes adds the routes that to lacks. A next hop takes its routes along. Two IPv6 routes that differ in their
// next hop alone become one multipath route, so those replace the old one; IPv4
// has them side by side.
func (t transfer) addRoutes() error {
	there, err := t.read(t.to)
	if err != nil {
		return err
	}
	for _, r := range without(t.want.Routes, there.Routes) {
		flags := unix.NLM_F_APPEND
		if r.kind == nextHop || r.is6() && r.viaGateway() {
			flags = unix.NLM_F_REPLACE
		}
		if err := t.add(r, t.to, flags); err != nil {
			return err
		}
	}
	return nil
}

// removeAddresses takes them off from, in reverse: with the first IPv4 address
// of a subnet its secondary ones would go.
func (t transfer) removeAddresses() error {
	old, err := t.read(t.from)
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(old.Addresses) {
		if err := t.remove(a, t.from); err != nil {
			return err
		}
	}
	return nil
}

// settle adds what the kernel removed along with from's addresses, and gives
// the IPv6 addresses their own flags.
func (t transfer) settle() error {
	if err := t.addRoutes(); err != nil {
		return err
	}
	have, err := t.read(t.to)
	if err != nil {
		return err
	}
	wanted := make(map[string]message)
	for _, a := range t.want.Addresses {
		wanted[a.key()] = a
	}
	const ours = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	for _, a := range have.Addresses {
		want, known := wanted[a.key()]
		if !known || (a.addressFlags()^want.addressFlags())&ours == 0 {
			continue
		}
		a = a.clone()
		a.setAddressFlags(a.addressFlags()&^ours | want.addressFlags()&ours)
		if err := t.add(a, t.to, unix.NLM_F_REPLACE); err != nil {
			return err
		}
	}
	return nil
}
