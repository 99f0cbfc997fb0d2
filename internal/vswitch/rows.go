package vswitch

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// Bridge and interfaceRow are what we read of the database's tables
// (ovs-vswitchd.conf.db(5)).
type Bridge struct {
	Name        string
	Datapath    string
	FailMode    string
	ExternalIDs map[string]string
}

type Interface struct {
	Name        string
	Type        string
	ExternalIDs map[string]string
	Options     map[string]string
	// Port is the OpenFlow port number; zero while the switch has not got the device.
	Port int
	// Error is why it has not.
	Error string
}

// cells are a row's columns, by name.
type cells map[string]json.RawMessage

func (c cells) bridge() Bridge {
	return Bridge{
		Name: text(c["name"]), Datapath: text(c["datapath_type"]), FailMode: text(c["fail_mode"]), ExternalIDs: mapping(c["external_ids"]),
	}
}

func (c cells) iface() Interface {
	var port int
	if json.Unmarshal(c["ofport"], &port) != nil || port < 0 {
		port = 0 // ["set",[]]: not yet; -1: an error
	}
	return Interface{
		Name: text(c["name"]), Type: text(c["type"]), ExternalIDs: mapping(c["external_ids"]), Options: mapping(c["options"]),
		Port: port, Error: text(c["error"]),
	}
}

func bridgeColumns() []string { return []string{"name", "datapath_type", "fail_mode", "external_ids"} }

func interfaceColumns() []string {
	return []string{"name", "type", "external_ids", "options", "ofport"}
}

func (s *Switch) Bridges(ctx context.Context) ([]Bridge, error) {
	table, err := s.list(ctx, "Bridge", nil, bridgeColumns())
	if err != nil {
		return nil, err
	}
	var rows []Bridge
	for _, cells := range table {
		rows = append(rows, cells.bridge())
	}
	return rows, nil
}

// Interfaces reads those of the names, or all.
func (s *Switch) Interfaces(ctx context.Context, names ...string) ([]Interface, error) {
	table, err := s.list(ctx, "Interface", names, append(interfaceColumns(), "error"))
	if err != nil {
		return nil, err
	}
	var rows []Interface
	for _, cells := range table {
		rows = append(rows, cells.iface())
	}
	return rows, nil
}

// Attached reads the interfaces of those names, all of which the switch must have
// Attached: ovs-vsctl has waited until it tried.
func (s *Switch) Attached(ctx context.Context, names ...string) (map[string]Interface, error) {
	rows, err := s.Interfaces(ctx, names...)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Interface, len(rows))
	for _, row := range rows {
		if row.Port == 0 {
			return nil, fmt.Errorf("the switch does not take port %s: %s", row.Name, cmp.Or(row.Error, "it has no number yet"))
		}
		found[row.Name] = row
	}
	return found, nil
}

// list reads columns of a table.
func (s *Switch) list(ctx context.Context, table string, records, columns []string) ([]cells, error) {
	args := append([]string{"--format=json", "--columns=" + strings.Join(columns, ","), "list", table}, records...)
	out, err := s.Exec(ctx, nil, "ovs-vsctl", args...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", table, err)
	}
	var reply struct {
		Headings []string            `json:"headings"`
		Data     [][]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(out, &reply); err != nil {
		return nil, fmt.Errorf("list %s: %w", table, err)
	}
	rows := make([]cells, 0, len(reply.Data))
	for _, data := range reply.Data {
		row := make(cells, len(columns))
		for i, heading := range reply.Headings {
			if i < len(data) {
				row[heading] = data[i]
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// text reads a cell that is a string or an optional string: ["set",[]] is none
// (RFC 7047 §5.1).
func text(cell json.RawMessage) string {
	var value string
	if json.Unmarshal(cell, &value) != nil {
		return ""
	}
	return value
}

// mapping reads ["map",[["key","value"],…]].
func mapping(cell json.RawMessage) map[string]string {
	var tagged [2]json.RawMessage
	var entries [][2]string
	if json.Unmarshal(cell, &tagged) != nil || json.Unmarshal(tagged[1], &entries) != nil {
		return nil
	}
	values := make(map[string]string, len(entries))
	for _, entry := range entries {
		values[entry[0]] = entry[1]
	}
	return values
}

// references reads a cell that is a set of other rows' UUIDs: ["uuid","…"] is one,
// ["set",[["uuid","…"],…]] are several.
func references(cell json.RawMessage) []string {
	var tagged [2]json.RawMessage
	var one string
	if json.Unmarshal(cell, &tagged) != nil {
		return nil
	}
	if json.Unmarshal(tagged[1], &one) == nil {
		return []string{one}
	}
	var many [][2]string
	if json.Unmarshal(tagged[1], &many) != nil {
		return nil
	}
	uuids := make([]string, len(many))
	for i, reference := range many {
		uuids[i] = reference[1]
	}
	return uuids
}
