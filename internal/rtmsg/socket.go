package rtmsg

import (
	"errors"
	"fmt"

	rtnl "github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Socket speaks rtnetlink in one network namespace, in whole messages.
type Socket struct{ handle *rtnl.SocketHandle }

// Open opens a socket in ns.
func Open(ns netns.NsHandle) (*Socket, error) {
	socket, err := rtnl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	return &Socket{&rtnl.SocketHandle{Socket: socket}}, nil
}

// Close closes the socket.
func (s *Socket) Close() error {
	s.handle.Close()
	return nil
}

// Dump lists all of a kind, of one family (AF_*) or of any.
func (s *Socket) Dump(what Kind, family byte) ([]Message, error) {
	add, _, get := what.types()
	req := s.Request(get, unix.NLM_F_DUMP)
	header := make([]byte, what.headerLen())
	header[0] = family
	req.AddRawData(header)
	parts, err := req.Execute(unix.NETLINK_ROUTE, add)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	messages := make([]Message, 0, len(parts))
	for _, raw := range parts {
		m, err := parseMessage(what, raw)
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// Add writes m; one that is there already is no error. flags are NLM_F_*.
func (s *Socket) Add(m Message, flags int) error {
	typ, _, _ := m.Kind.types()
	err := s.send(typ, m, unix.NLM_F_CREATE|flags)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// Delete deletes m; one that is gone already is no error.
func (s *Socket) Delete(m Message) error {
	_, typ, _ := m.Kind.types()
	err := s.send(typ, m, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (s *Socket) send(typ uint16, m Message, flags int) error {
	req := s.Request(typ, unix.NLM_F_ACK|flags)
	req.AddRawData(m.bytes())
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// Request is one that this socket sends.
func (s *Socket) Request(typ uint16, flags int) *rtnl.NetlinkRequest {
	req := rtnl.NewNetlinkRequest(int(typ), flags)
	req.Sockets = map[int]*rtnl.SocketHandle{unix.NETLINK_ROUTE: s.handle}
	req.RetryInterrupted = true
	return req
}
