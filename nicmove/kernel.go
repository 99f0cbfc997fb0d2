package nicmove

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/rtmsg"
)

// kernel speaks rtnetlink in the host's namespace.
type kernel struct {
	*nl.Handle
	socket *rtmsg.Socket // for whole messages, which Handle does not offer
	// step is told of each write before it is made; a test ends the process there.
	step func(what string)
	// vlan gives the device of a tag; a test whose kernel has none puts another here.
	vlan func(attrs netlink.LinkAttrs, tag int) netlink.Link
}

func openKernel(ns netns.NsHandle) (*kernel, error) {
	handle, err := nl.Open(ns)
	if err != nil {
		return nil, err
	}
	socket, err := rtmsg.Open(handle.NS())
	if err != nil {
		return nil, errors.Join(err, handle.Close())
	}
	return &kernel{
		Handle: handle, socket: socket, step: func(string) {},
		vlan: func(attrs netlink.LinkAttrs, tag int) netlink.Link {
			return &netlink.Vlan{LinkAttrs: attrs, VlanId: tag}
		},
	}, nil
}

func (k *kernel) close() error { return errors.Join(k.Close(), k.socket.Close()) }

// do makes one write, named for the tests that stop there, and for its error.
func (k *kernel) do(what string, write func() error) error {
	k.step(what)
	if err := write(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// add writes m to a device; flags are NLM_F_*.
func (k *kernel) add(m rtmsg.Message, on rtmsg.Device, flags int) error {
	return k.do(fmt.Sprintf("add %s %s to %s", m.Kind, m, on.Name), func() error { return k.socket.Add(m, flags) })
}

func (k *kernel) remove(m rtmsg.Message, from rtmsg.Device) error {
	return k.do(fmt.Sprintf("delete %s %s from %s", m.Kind, m, from.Name), func() error { return k.socket.Delete(m) })
}

// find is Link for what may well be missing.
func (k *kernel) find(name string) (link netlink.Link, found bool, err error) {
	link, err = k.Link(name)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, false, nil
	}
	return link, err == nil, err
}

func deviceOf(link netlink.Link) rtmsg.Device {
	return rtmsg.Device{Index: link.Attrs().Index, Name: link.Attrs().Name}
}
