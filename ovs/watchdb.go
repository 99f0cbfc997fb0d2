package ovs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/causeway-net/causeway/internal/jsonrpc"
)

// replica is what the database has of bridges, ports and interfaces, by UUID.
type replica map[string]map[string]cells

// database watches the database (RFC 7047 §4.1.5): the bridge, its ports, and the
// numbers that the switch gave them.
func (w watcher) database(ctx context.Context) error {
	conn, err := jsonrpc.Dial(ctx, filepath.Join(w.RunDir, "db.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	tables := replica{"Bridge": {}, "Port": {}, "Interface": {}}
	conn.Notify = func(method string, params json.RawMessage) error {
		var update [2]json.RawMessage // the monitor's name, and the tables
		if method != "update" {
			return nil
		}
		if err := json.Unmarshal(params, &update); err != nil {
			return err
		}
		return tables.update(update[1])
	}
	columns := func(names ...string) map[string][]string { return map[string][]string{"columns": names} }
	var initial json.RawMessage
	if err := conn.Call(0, "monitor", []any{"Open_vSwitch", w.Bridge, map[string]any{
		"Bridge": columns(append(bridgeColumns(), "ports")...), "Port": columns("interfaces"), "Interface": columns(interfaceColumns()...),
	}}, &initial); err != nil {
		return err
	}
	if err := tables.update(initial); err != nil {
		return err
	}
	for {
		var stale []string
		err := w.activity.settle(ctx, func() error { return conn.Call(0, "echo", nil, nil) }, func() {
			stale = w.differs(tables)
			w.mark(stale)
		})
		if err != nil {
			return err
		}
		w.tell(stale)
		if err := conn.Wait(); err != nil {
			return err
		}
	}
}

// update stores the rows that changed.
func (r replica) update(text json.RawMessage) error {
	var tables map[string]map[string]struct {
		New cells `json:"new"`
	}
	if err := json.Unmarshal(text, &tables); err != nil {
		return fmt.Errorf("update of the database: %w", err)
	}
	for table, rows := range tables {
		for uuid, row := range rows {
			if row.New == nil {
				delete(r[table], uuid)
			} else {
				r[table][uuid] = row.New
			}
		}
	}
	return nil
}

// bridge returns the bridge of that name, and the interfaces on it by name.
func (r replica) bridge(name string) (row bridgeRow, there bool, interfaces map[string]interfaceRow) {
	interfaces = make(map[string]interfaceRow)
	for _, cells := range r["Bridge"] {
		if row = cells.bridge(); row.Name != name {
			continue
		}
		for _, port := range references(cells["ports"]) {
			for _, iface := range references(r["Port"][port]["interfaces"]) {
				row := r["Interface"][iface].iface()
				interfaces[row.Name] = row
			}
		}
		return row, true, interfaces
	}
	return bridgeRow{}, false, interfaces
}

// differs returns the networks for which the database is not as the plane left it.
func (w watcher) differs(r replica) []string {
	if w.have == nil || len(w.known) == 0 {
		return nil // the next Apply reads it anyway
	}
	bridge, there, interfaces := r.bridge(w.Bridge)
	if there != w.have.present || there && w.have.right && !w.isRight(bridge) {
		return slices.Collect(maps.Keys(w.known))
	}
	var stale []string
	for name, tunnel := range w.have.tunnels {
		if row := interfaces[name]; row.Port != tunnel.Port || row.Type != tunnel.Type || !maps.Equal(row.Options, tunnel.Options) {
			stale = append(stale, static)
		}
	}
	for _, port := range w.have.ports {
		if interfaces[port.name].Port != port.number {
			stale = append(stale, port.network)
		}
	}
	return stale
}
