package nicmove

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/internal/nl"
)

// kernel speaks rtnetlink in the host's namespace.
type kernel struct {
	*nl.Handle
	socket *rtnl.SocketHandle // for whole messages, which Handle does not offer
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
	socket, err := rtnl.GetNetlinkSocketAt(handle.NS(), netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open a netlink socket: %w", err), handle.Close())
	}
	return &kernel{
		Handle: handle, socket: &rtnl.SocketHandle{Socket: socket}, step: func(string) {},
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

func (k *kernel) dump(what kind, family byte) ([]message, error) {
	add, _, get := what.types()
	req := k.request(get, unix.NLM_F_DUMP)
	header := make([]byte, what.headerLen())
	header[0] = family
	req.AddRawData(header)
	parts, err := req.Execute(unix.NETLINK_ROUTE, add)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	messages := make([]message, 0, len(parts))
	for _, raw := range parts {
		m, err := parseMessage(what, raw)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// add makes m so; one that is there already is no error. flags are NLM_F_*.
func (k *kernel) add(m message, on device, flags int) error {
	typ, _, _ := m.kind.types()
	err := k.do(fmt.Sprintf("add %s %s to %s", m.kind, m, on.name), func() error {
		return k.send(typ, m, unix.NLM_F_CREATE|flags)
	})
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// remove takes m away; one that is gone already is no error.
func (k *kernel) remove(m message, from device) error {
	_, typ, _ := m.kind.types()
	err := k.do(fmt.Sprintf("remove %s %s from %s", m.kind, m, from.name), func() error {
		return k.send(typ, m, 0)
	})
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (k *kernel) send(typ uint16, m message, flags int) error {
	req := k.request(typ, unix.NLM_F_ACK|flags)
	req.AddRawData(m.bytes())
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (k *kernel) request(typ uint16, flags int) *rtnl.NetlinkRequest {
	req := rtnl.NewNetlinkRequest(int(typ), flags)
	req.Sockets = map[int]*rtnl.SocketHandle{unix.NETLINK_ROUTE: k.socket}
	req.RetryInterrupted = true
	return req
}

// find is Link for what may well be missing.
func (k *kernel) find(name string) (link netlink.Link, found bool, err error) {
	link, err = k.Link(name)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, false, nil
	}
	return link, err == nil, err
}

func deviceOf(link netlink.Link) device {
	return device{index: link.Attrs().Index, name: link.Attrs().Name}
}
