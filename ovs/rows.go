package ovs

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// bridgeRow and interfaceRow are what we read of the database's tables
// (ovs-vswitchd.conf.db(5)).
type bridgeRow struct {
	Name        string
	Datapath    string
	FailMode    string
	ExternalIDs map[string]string
}

type interfaceRow struct {
	Name        string
	Type        string
	ExternalIDs map[string]string
	Options     map[string]string
	// Port is the OpenFlow port number; zero while the switch has not got the device.
	Port int
	// Error is why it has not.
	Error string
}

func (s vswitch) bridges(ctx context.Context) ([]bridgeRow, error) {
	table, err := s.list(ctx, "Bridge", nil, "name", "datapath_type", "fail_mode", "external_ids")
	if err != nil {
		return nil, err
	}
	var rows []bridgeRow
	for _, cells := range table {
		rows = append(rows, bridgeRow{
			Name: text(cells[0]), Datapath: text(cells[1]), FailMode: text(cells[2]), ExternalIDs: mapping(cells[3]),
		})
	}
	return rows, nil
}

// interfaces reads those of the names, or all.
func (s vswitch) interfaces(ctx context.Context, names ...string) ([]interfaceRow, error) {
	table, err := s.list(ctx, "Interface", names, "name", "type", "external_ids", "options", "ofport", "error")
	if err != nil {
		return nil, err
	}
	var rows []interfaceRow
	for _, cells := range table {
		var port int
		if json.Unmarshal(cells[4], &port) != nil || port < 0 {
			port = 0 // ["set",[]]: not yet; -1: an error
		}
		rows = append(rows, interfaceRow{
			Name: text(cells[0]), Type: text(cells[1]), ExternalIDs: mapping(cells[2]), Options: mapping(cells[3]),
			Port: port, Error: text(cells[5]),
		})
	}
	return rows, nil
}

// taken reads the interfaces of that name, all of which the switch must have
// got: ovs-vsctl has waited until it tried.
func (s vswitch) taken(ctx context.Context, names ...string) (map[string]interfaceRow, error) {
	rows, err := s.interfaces(ctx, names...)
	if err != nil {
		return nil, err
	}
	found := make(map[string]interfaceRow, len(rows))
	for _, row := range rows {
		if row.Port == 0 {
			return nil, fmt.Errorf("the switch does not take port %s: %s", row.Name, cmp.Or(row.Error, "it has no number yet"))
		}
		found[row.Name] = row
	}
	return found, nil
}

// list reads columns of a table, in the order asked for.
func (s vswitch) list(ctx context.Context, table string, records []string, columns ...string) ([][]json.RawMessage, error) {
	args := append([]string{"--format=json", "--columns=" + strings.Join(columns, ","), "list", table}, records...)
	out, err := s.exec(ctx, nil, "ovs-vsctl", args...)
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
	place := make(map[string]int, len(columns))
	for i, heading := range reply.Headings {
		place[heading] = i
	}
	rows := make([][]json.RawMessage, 0, len(reply.Data))
	for _, cells := range reply.Data {
		row := make([]json.RawMessage, len(columns))
		for i, column := range columns {
			from, ok := place[column]
			if !ok || from >= len(cells) {
				return nil, fmt.Errorf("list %s: no column %s", table, column)
			}
			row[i] = cells[from]
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
