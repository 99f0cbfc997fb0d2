package names

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"github.com/causeway-net/causeway/internal/nl"
)

const (
	// maxUDP is the largest message that we take and send over UDP, in bytes (as
	// RFC 9715 advises for the wire; loopback would take more).
	maxUDP = 1232
	// maxForwards bounds the questions of one sandbox that wait for Docker's
	// resolver; what is more is dropped, and clients ask again.
	maxForwards = 128
	// maxTCPQueries bounds the questions on one connection.
	maxTCPQueries = 1000
)

// listener takes the questions of one sandbox.
type listener struct {
	port    uint16
	servers []*dns.Server
}

// listen opens the same port of 127.0.0.11 over UDP and TCP in ns.
func listen(ns netns.NsHandle, handler dns.Handler) (*listener, error) {
	var packets *net.UDPConn
	var streams *net.TCPListener
	const tries = 8 // TCP may have the port that UDP was given
	var err error
	for range tries {
		err = nl.Do(ns, func() (err error) {
			packets, err = net.ListenUDP("udp4", &net.UDPAddr{IP: dockerResolver().AsSlice()})
			if err != nil {
				return err
			}
			streams, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: dockerResolver().AsSlice(), Port: port(packets)})
			if err != nil {
				return errors.Join(err, packets.Close())
			}
			return nil
		})
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on 127.0.0.11: %w", err)
	}
	l := &listener{port: uint16(port(packets)), servers: []*dns.Server{
		{PacketConn: packets, Handler: handler, UDPSize: dns.DefaultMsgSize, MsgAcceptFunc: accept},
		{
			Listener: streams, Handler: handler, MsgAcceptFunc: accept, MaxTCPQueries: maxTCPQueries,
			ReadTimeout: 5 * time.Second, IdleTimeout: func() time.Duration { return 10 * time.Second },
		},
	}}
	return l, nil
}

func port(packets *net.UDPConn) int { return packets.LocalAddr().(*net.UDPAddr).Port }

// accept is [dns.DefaultMsgAcceptFunc], but for questions with other sections,
// which are Docker's to judge.
func accept(header dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	switch {
	case header.Bits&response != 0:
		return dns.MsgIgnore
	case header.Qdcount != 1:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// serve answers until close.
func (l *listener) serve() {
	for _, server := range l.servers {
		go func() { _ = server.ActivateAndServe() }()
	}
}

func (l *listener) close() error {
	var errs []error
	for _, server := range l.servers {
		if err := server.Shutdown(); err != nil { // it was not serving yet
			if server.PacketConn != nil {
				err = server.PacketConn.Close()
			} else {
				err = server.Listener.Close()
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
