package nicmove

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/rtmsg"
)

// transfer carries want from one device to another; want is in the terms of to.
type transfer struct {
	*kernel
	from, to rtmsg.Device
	want     rtmsg.State
}

func (t transfer) run(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("move %s to %s: %w", t.from.Name, t.to.Name, err)
		}
	}
	return nil
}

// addAddresses gives to the addresses, while from still has them. IPv6 ones
// come without duplicate address detection, which would take a second and may
// see from's; and without a route, which would compete with from's: settle sets both right.
func (t transfer) addAddresses() error {
	there, err := t.socket.Read(t.to)
	if err != nil {
		return err
	}
	for _, a := range rtmsg.Without(t.want.Addresses, there.Addresses) {
		if a.Is6() {
			a = a.Clone()
			flags := a.AddressFlags() | unix.IFA_F_NOPREFIXROUTE
			if flags&unix.IFA_F_DADFAILED == 0 { // else it is another's
				flags |= unix.IFA_F_NODAD
			}
			a.SetAddressFlags(flags)
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
func (t transfer) renew(there rtmsg.State) error {
	old, err := t.socket.Read(t.from)
	if err != nil {
		return err
	}
	moved := old.On(t.from, t.to).Addresses
	fresh := rtmsg.Without(moved, there.Addresses)
	for _, a := range rtmsg.Without(moved, fresh) {
		if a.IsDynamic() {
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
		routes, err := t.socket.Dump(rtmsg.Route, unix.AF_INET6)
		if err != nil {
			return err
		}
		local := make(map[string]bool)
		for _, r := range routes {
			if r.IsLocal() && r.Leaves(t.to.Index) {
				local[string(r.Get(unix.RTA_DST))] = true
			}
		}
		missing := func(a rtmsg.Message) bool { return a.Is6() && !local[string(a.Get(unix.IFA_ADDRESS))] }
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
	old, err := t.socket.Read(t.from)
	if err != nil || t.from.Index == 0 {
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
	there, err := t.socket.Read(t.to)
	if err != nil {
		return err
	}
	for _, r := range rtmsg.Without(t.want.Routes, there.Routes) {
		flags := unix.NLM_F_APPEND
		if r.Kind == rtmsg.NextHop || r.Is6() && r.ViaGateway() {
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
	old, err := t.socket.Read(t.from)
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
	have, err := t.socket.Read(t.to)
	if err != nil {
		return err
	}
	wanted := make(map[string]rtmsg.Message)
	for _, a := range t.want.Addresses {
		wanted[a.Key()] = a
	}
	const ours = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	for _, a := range have.Addresses {
		want, known := wanted[a.Key()]
		if !known || (a.AddressFlags()^want.AddressFlags())&ours == 0 {
			continue
		}
		a = a.Clone()
		a.SetAddressFlags(a.AddressFlags()&^ours | want.AddressFlags()&ours)
		if err := t.add(a, t.to, unix.NLM_F_REPLACE); err != nil {
			return err
		}
	}
	return nil
}
