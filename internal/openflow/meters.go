package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Meter drops what passes it beyond a rate (OpenFlow 1.5 §5.11).
type Meter struct {
	ID uint32
	// Packets says that it counts packets, not bits.
	Packets bool
	// Rate is in packets or kilobits a second, Burst in packets or kilobits.
	Rate, Burst uint32
}

// MeterCommand is what is done with a meter (enum ofp_meter_mod_command).
type MeterCommand uint16

// The commands. A meter that is deleted takes the flows that name it along.
const (
	AddMeter MeterCommand = iota
	ModifyMeter
	DeleteMeter
)

// MeterChange is one command.
type MeterChange struct {
	Command MeterCommand
	Meter
}

// ChangeMeters has the bridge whose socket is at path carry out the changes, within
// limit. Those before one that is refused are done.
func ChangeMeters(ctx context.Context, path string, limit time.Duration, changes []MeterChange) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	c := &Conn{conn: conn, read: bufio.NewReader(conn), Changed: func(Change) {}}
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := c.changeMeters(time.Now().Add(limit), changes); err != nil {
		return errors.Join(fmt.Errorf("change meters on %s: %w", path, err), c.Close())
	}
	return c.Close()
}

func (c *Conn) changeMeters(deadline time.Time, changes []MeterChange) error {
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	for _, change := range changes {
		if err := c.send(typeMeterMod, change.body()); err != nil {
			return err
		}
	}
	return c.Sync(time.Until(deadline)) // an error that the switch has with any comes first
}

// body is a struct ofp_meter_mod, with one band that drops.
func (m MeterChange) body() []byte {
	const kilobits, packets, burst, stats = 1 << 0, 1 << 1, 1 << 2, 1 << 3 // enum ofp_meter_flags
	const bandDrop, bandLength = 1, 16
	flags := uint16(kilobits | burst | stats)
	if m.Packets {
		flags = packets | burst | stats
	}
	body := binary.BigEndian.AppendUint16(nil, uint16(m.Command))
	body = binary.BigEndian.AppendUint16(body, flags)
	body = binary.BigEndian.AppendUint32(body, m.ID)
	if m.Command == DeleteMeter {
		return body
	}
	body = binary.BigEndian.AppendUint16(body, bandDrop)
	body = binary.BigEndian.AppendUint16(body, bandLength)
	body = binary.BigEndian.AppendUint32(body, m.Rate)
	body = binary.BigEndian.AppendUint32(body, m.Burst)
	return append(body, 0, 0, 0, 0)
}
