package vswitch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/causeway-net/causeway/internal/openflow"
)

// DumpMeters reads the bridge's meters.
func (s *Switch) DumpMeters(ctx context.Context) (map[uint32]openflow.Meter, error) {
	out, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "dump-meters", s.bridge)
	if err != nil {
		return nil, fmt.Errorf("read meters of bridge %s: %w", s.bridge, err)
	}
	return parseMeters(string(out))
}

// parseMeters reads the text of dump-meters: a line for each meter, and one for each
// of its bands.
func parseMeters(text string) (map[uint32]openflow.Meter, error) {
	meters := make(map[uint32]openflow.Meter)
	var m openflow.Meter
	for line := range strings.Lines(text) {
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			var err error
			switch name {
			case "meter":
				m = openflow.Meter{}
				m.ID, err = parseUint32(value)
			case "pktps":
				m.Packets = true
			case "rate":
				m.Rate, err = parseUint32(value)
			case "burst_size":
				m.Burst, err = parseUint32(value)
			}
			if err != nil {
				return nil, fmt.Errorf("meter %q: %w", strings.TrimSpace(line), err)
			}
		}
		if m.ID != 0 {
			meters[m.ID] = m
		}
	}
	return meters, nil
}

// MeterDrops counts the packets that each meter of the bridge dropped.
func (s *Switch) MeterDrops(ctx context.Context) (map[uint32]uint64, error) {
	out, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "meter-stats", s.bridge)
	if err != nil {
		return nil, fmt.Errorf("read what meters of bridge %s dropped: %w", s.bridge, err)
	}
	return parseMeterDrops(string(out))
}

// parseMeterDrops reads the text of meter-stats: a line for each meter, and one for
// each of its bands, which has a count.
func parseMeterDrops(text string) (map[uint32]uint64, error) {
	drops := make(map[uint32]uint64)
	id := uint32(0)
	for line := range strings.Lines(text) {
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, ":")
			var err error
			switch name {
			case "meter":
				id, err = parseUint32(value)
			case "packet_count":
				drops[id], err = strconv.ParseUint(value, 10, 64)
			}
			if err != nil {
				return nil, fmt.Errorf("meter %q: %w", strings.TrimSpace(line), err)
			}
		}
	}
	return drops, nil
}

func parseUint32(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// changeMeters speaks OpenFlow itself: ovs-ofctl takes one meter at a time.
func (s *Switch) changeMeters(ctx context.Context, changes []openflow.MeterChange) error {
	if len(changes) == 0 {
		return nil
	}
	if s.breaker.open() {
		return ErrUnresponsive
	}
	err := openflow.ChangeMeters(ctx, s.Management(), s.breaker.timeout(), changes)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.breaker.trip()
		return ErrUnresponsive
	}
	if err != nil {
		return fmt.Errorf("write %d meters to bridge %s: %w", len(changes), s.bridge, err)
	}
	return nil
}

// Counted is a flow and how many packets it took.
type Counted struct {
	Flow
	Packets uint64
}

// CountFlows reads the flows of a cookie in a table, with their counters.
func (s *Switch) CountFlows(ctx context.Context, cookie, mask uint64, table int) ([]Counted, error) {
	out, err := s.Exec(ctx, nil, "ovs-ofctl", "-O", OpenFlow15, "dump-flows", s.bridge, fmt.Sprintf("cookie=%#x/%#x,table=%d", cookie, mask, table))
	if err != nil {
		return nil, fmt.Errorf("count what flows of bridge %s took: %w", s.bridge, err)
	}
	return parseCounted(string(out))
}

func parseCounted(text string) ([]Counted, error) {
	var counted []Counted
	for line := range strings.Lines(text) {
		_, count, there := strings.Cut(line, " n_packets=")
		if !there {
			continue // the reply's headline
		}
		count, _, _ = strings.Cut(count, ",")
		packets, err := strconv.ParseUint(count, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("flow %q: %w", strings.TrimSpace(line), err)
		}
		f, err := parseFlow(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		counted = append(counted, Counted{f, packets})
	}
	return counted, nil
}
