package ovs

import (
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
	// Attached says that the switch has the device and gave it a port number.
	Attached bool
	// Error is why it has not.
	Error string
}

func (s vswitch) bridges(ctx context.Context) ([]bridgeRow, error) {
	table, err := s.list(ctx, "Bridge", "name", "datapath_type", "fail_mode", "external_ids")
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

func (s vswitch) interfaces(ctx context.Context) ([]interfaceRow, error) {
	table, err := s.list(ctx, "Interface", "name", "type", "external_ids", "options", "ofport", "error")
	if err != nil {
		return nil, err
	}
	var rows []interfaceRow
	for _, cells := range table {
		var number int
		attached := json.Unmarshal(cells[4], &number) == nil && number > 0
		rows = append(rows, interfaceRow{
			Name: text(cells[0]), Type: text(cells[1]), ExternalIDs: mapping(cells[2]), Options: mapping(cells[3]),
			Attached: attached, Error: text(cells[5]),
		})
	}
	return rows, nil
}

// list reads columns of a table, in the order asked for.
func (s vswitch) list(ctx context.Context, table string, columns ...string) ([][]json.RawMessage, error) {
	out, err := s.exec(ctx, nil, "ovs-vsctl", "--format=json", "--columns="+strings.Join(columns, ","), "list", table)
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
