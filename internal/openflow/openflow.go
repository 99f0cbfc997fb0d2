// Package openflow hears what happens to the flows and groups of an Open vSwitch
// bridge, and changes its meters, over OpenFlow 1.5 on the bridge's management socket.
//
// A change's path: [Dial] asks the switch to tell of every flow that is added,
// removed or modified (OFPMP_FLOW_MONITOR, OpenFlow 1.5 §7.3.5.17) and of the
// group messages of other connections (OFPT_REQUESTFORWARD, §7.4.5); [Conn.Wait]
// reads on and hands each to Changed. [Conn.Sync] returns when all that happened
// before it was handed over. A [Change] has the kind, the cookie and the group; a
// caller that needs more reads the switch.
package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Kind is what happened.
type Kind int

// The kinds of changes.
const (
	// FlowAdded is also told when the flow replaces one of the same match.
	FlowAdded Kind = iota
	FlowRemoved
	FlowModified
	// GroupChanged is told of each group message, whatever it did.
	GroupChanged
	// Lost says that the switch did not tell of all changes.
	Lost
)

// Change is one flow's or group's.
type Change struct {
	Kind   Kind
	Cookie uint64 // of the flow
	Group  uint32 // of the group; AllGroups for each
}

// AllGroups is OFPG_ALL.
const AllGroups = 0xfffffffc

// Message types and their numbers (OpenFlow 1.5, §7.1.1).
const (
	version = 6 // OpenFlow 1.5

	typeHello            = 0
	typeError            = 1
	typeEchoRequest      = 2
	typeEchoReply        = 3
	typeSetConfig        = 9
	typeMultipartRequest = 18
	typeMultipartReply   = 19
	typeSetAsync         = 28
	typeMeterMod         = 29
	typeRequestForward   = 32

	multipartFlowMonitor = 16
	headerLength         = 8
)

// Conn is one connection. It is for one goroutine.
type Conn struct {
	// Changed gets each change.
	Changed func(Change)

	conn net.Conn
	stop func() bool
	read *bufio.Reader
	last uint32 // transaction ID
}

// Dial connects to the bridge's socket at path and asks for the changes from now
// on. A switch that hangs accepts and is silent: Dial waits for it until ctx ends,
// as does the connection.
func Dial(ctx context.Context, path string) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, read: bufio.NewReader(conn), Changed: func(Change) {}}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := c.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch flows on %s: %w", path, err), c.Close())
	}
	return c, nil
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.stop()
	return c.conn.Close()
}

// greet says that both speak this version.
func (c *Conn) greet() error {
	if err := c.send(typeHello, nil); err != nil {
		return err
	}
	kind, _, hello, err := c.receive()
	if err != nil {
		return err
	}
	if kind != typeHello {
		return fmt.Errorf("message type %d in place of a greeting: % x", kind, hello)
	}
	return nil
}

func (c *Conn) begin() error {
	if err := c.greet(); err != nil {
		return err
	}
	if err := c.send(typeSetAsync, asyncConfig()); err != nil {
		return err
	}
	// Open vSwitch tells a connection of this kind what it asked for only when its
	// packets may have some length (ofconn_receives_async_msg).
	if err := c.send(typeSetConfig, []byte{0, 0, 0, 1}); err != nil {
		return err
	}
	if err := c.send(typeMultipartRequest, monitorRequest()); err != nil {
		return err
	}
	return c.Sync(0) // an error that the switch has with any of it comes first
}

// asyncConfig asks for the group messages of other connections, and for none of the
// packets, ports and flows that controllers hear of (OFPT_SET_ASYNC, §7.3.10).
func asyncConfig() []byte {
	const packetIn, portStatus, flowRemoved, requestForward = 1, 3, 5, 11 // of masters
	const length, groupMod = 8, 1 << 0
	var body []byte
	for _, property := range []struct{ kind, reasons uint32 }{{packetIn, 0}, {portStatus, 0}, {flowRemoved, 0}, {requestForward, groupMod}} {
		body = binary.BigEndian.AppendUint16(body, uint16(property.kind))
		body = binary.BigEndian.AppendUint16(body, length)
		body = binary.BigEndian.AppendUint32(body, property.reasons)
	}
	return body
}

// monitorRequest asks for all flows' changes (struct ofp_flow_monitor_request).
func monitorRequest() []byte {
	const (
		any         = 0xffffffff // OFPP_ANY, OFPG_ANY
		allTables   = 0xff
		add         = 0 // OFPFMC_ADD
		changes     = 1<<1 | 1<<2 | 1<<3
		matchOXM    = 1
		matchLength = 4
	)
	body := binary.BigEndian.AppendUint16(nil, multipartFlowMonitor)
	body = append(body, 0, 0, 0, 0, 0, 0)           // flags, padding
	body = binary.BigEndian.AppendUint32(body, 1)   // monitor ID
	body = binary.BigEndian.AppendUint32(body, any) // output port
	body = binary.BigEndian.AppendUint32(body, any) // output group
	body = binary.BigEndian.AppendUint16(body, changes)
	body = append(body, allTables, add)
	body = binary.BigEndian.AppendUint16(body, matchOXM)
	body = binary.BigEndian.AppendUint16(body, matchLength)
	return append(body, 0, 0, 0, 0)
}

// Wait reads one message and hands over its changes. It waits as long as the
// connection lasts.
func (c *Conn) Wait() error {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	kind, id, body, err := c.receive()
	if err != nil {
		return err
	}
	return c.handle(kind, id, body)
}

// Sync hands over the changes that happened before it. Within limit the switch
// must have answered; zero waits as long as the connection lasts.
func (c *Conn) Sync(limit time.Duration) error {
	var deadline time.Time
	if limit > 0 {
		deadline = time.Now().Add(limit)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := c.send(typeEchoRequest, nil); err != nil {
		return err
	}
	asked := c.last
	for {
		kind, id, body, err := c.receive()
		if err != nil {
			return err
		}
		if kind == typeEchoReply && id == asked {
			return nil
		}
		if err := c.handle(kind, id, body); err != nil {
			return err
		}
	}
}

func (c *Conn) handle(kind byte, id uint32, body []byte) error {
	switch kind {
	case typeEchoRequest:
		return c.write(typeEchoReply, id, body)
	case typeError:
		return fmt.Errorf("the switch refused: error % x", body)
	case typeMultipartReply:
		return c.flows(body)
	case typeRequestForward:
		return c.group(body)
	}
	return nil
}

// flows reads the updates of a flow monitor (struct ofp_flow_update_header).
func (c *Conn) flows(body []byte) error {
	const head, full, cookie = 8, 24, 16
	if len(body) < head || binary.BigEndian.Uint16(body) != multipartFlowMonitor {
		return nil
	}
	for body = body[head:]; len(body) > 0; {
		if len(body) < 4 {
			return errors.New("a flow update is cut off")
		}
		length, event := int(binary.BigEndian.Uint16(body)), binary.BigEndian.Uint16(body[2:])
		if length < 4 || length > len(body) {
			return fmt.Errorf("a flow update of %d bytes in %d", length, len(body))
		}
		update := body[:length]
		body = body[length:]
		const added, removed, modified, paused = 1, 2, 3, 5
		kinds := map[uint16]Kind{added: FlowAdded, removed: FlowRemoved, modified: FlowModified}
		if kind, known := kinds[event]; known && length >= full {
			c.Changed(Change{Kind: kind, Cookie: binary.BigEndian.Uint64(update[cookie:])})
		} else if event == paused {
			c.Changed(Change{Kind: Lost})
		}
	}
	return nil
}

// group reads a forwarded request (struct ofp_group_mod).
func (c *Conn) group(request []byte) error {
	const groupMod, id = 15, headerLength + 4
	if len(request) < id+4 {
		return errors.New("a forwarded request is cut off")
	}
	if request[1] == groupMod {
		c.Changed(Change{Kind: GroupChanged, Group: binary.BigEndian.Uint32(request[id:])})
	}
	return nil
}

// receive reads one message.
func (c *Conn) receive() (kind byte, id uint32, body []byte, err error) {
	header := make([]byte, headerLength)
	if _, err := io.ReadFull(c.read, header); err != nil {
		return 0, 0, nil, err
	}
	length := int(binary.BigEndian.Uint16(header[2:]))
	if length < headerLength {
		return 0, 0, nil, fmt.Errorf("a message of %d bytes", length)
	}
	body = make([]byte, length-headerLength)
	_, err = io.ReadFull(c.read, body)
	return header[1], binary.BigEndian.Uint32(header[4:]), body, err
}

func (c *Conn) send(kind byte, body []byte) error {
	c.last++
	return c.write(kind, c.last, body)
}

func (c *Conn) write(kind byte, id uint32, body []byte) error {
	message := []byte{version, kind}
	message = binary.BigEndian.AppendUint16(message, uint16(headerLength+len(body)))
	message = binary.BigEndian.AppendUint32(message, id)
	_, err := c.conn.Write(append(message, body...))
	return err
}
