package vswitch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/causeway-net/causeway/internal/jsonrpc"
)

// Database follows the bridges, ports and interfaces of Open vSwitch's database
// (RFC 7047 §4.1.5). It is for one goroutine.
type Database struct {
	conn   *jsonrpc.Conn
	tables map[string]map[string]cells // by table, by UUID
}

// Follow connects to the database and reads it. The connection ends with ctx.
func (s *Switch) Follow(ctx context.Context) (*Database, error) {
	conn, err := jsonrpc.Dial(ctx, filepath.Join(s.runDir, "db.sock"))
	if err != nil {
		return nil, err
	}
	d := &Database{conn, map[string]map[string]cells{"Bridge": {}, "Port": {}, "Interface": {}}}
	conn.Notify = func(method string, params json.RawMessage) error {
		var update [2]json.RawMessage // the monitor's name, and the tables
		if method != "update" {
			return nil
		}
		if err := json.Unmarshal(params, &update); err != nil {
			return err
		}
		return d.update(update[1])
	}
	if err := d.monitor(); err != nil {
		return nil, fmt.Errorf("follow the database: %w", errors.Join(err, conn.Close()))
	}
	return d, nil
}

func (d *Database) monitor() error {
	columns := func(names ...string) map[string][]string { return map[string][]string{"columns": names} }
	var initial json.RawMessage
	if err := d.conn.Call(0, "monitor", []any{"Open_vSwitch", "causeway", map[string]any{
		"Bridge": columns(append(bridgeColumns(), "ports")...), "Port": columns("interfaces"), "Interface": columns(interfaceColumns()...),
	}}, &initial); err != nil {
		return err
	}
	return d.update(initial)
}

// Close ends the connection.
func (d *Database) Close() error { return d.conn.Close() }

// Wait waits for a change, as long as the connection lasts.
func (d *Database) Wait() error { return d.conn.Wait() }

// Sync takes in all changes that were made before it.
func (d *Database) Sync() error { return d.conn.Call(0, "echo", nil, nil) }

// update stores the rows that changed.
func (d *Database) update(text json.RawMessage) error {
	var tables map[string]map[string]struct {
		New cells `json:"new"`
	}
	if err := json.Unmarshal(text, &tables); err != nil {
		return fmt.Errorf("update of the database: %w", err)
	}
	for table, rows := range tables {
		for uuid, row := range rows {
			if row.New == nil {
				delete(d.tables[table], uuid)
			} else {
				d.tables[table][uuid] = row.New
			}
		}
	}
	return nil
}

// Bridge returns the bridge of that name, and the interfaces on it by name.
func (d *Database) Bridge(name string) (row Bridge, there bool, interfaces map[string]Interface) {
	interfaces = make(map[string]Interface)
	for _, cells := range d.tables["Bridge"] {
		if row = cells.bridge(); row.Name != name {
			continue
		}
		for _, port := range references(cells["ports"]) {
			for _, iface := range references(d.tables["Port"][port]["interfaces"]) {
				row := d.tables["Interface"][iface].iface()
				interfaces[row.Name] = row
			}
		}
		return row, true, interfaces
	}
	return Bridge{}, false, interfaces
}
