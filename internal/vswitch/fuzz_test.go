package vswitch

import (
	"context"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What the switch prints of its flows is an error or flows, which read back as they are.
func FuzzFlows(f *testing.F) {
	f.Add(" cookie=0xca05e3a100000001, table=30, send_flow_rem priority=99,reg0=0x1 actions=drop")
	f.Add("OFPST_FLOW reply (OF1.5) (xid=0x2):\n priority=0 actions=NORMAL")
	f.Add(" table=10,arp,in_port=\"cwe\",arp_spa=192.168.1.2 actions=set_field:0x1->reg0,resubmit(,20)")
	f.Fuzz(func(t *testing.T, text string) {
		flows, err := parseFlows(text)
		if err != nil {
			return
		}
		for _, flow := range flows {
			again, err := parseFlow(flow.String())
			if err != nil {
				t.Fatalf("%q became %q: %v", text, flow, err)
			}
			if diff := cmp.Diff(flow, again); diff != "" {
				t.Errorf("%q: %s", text, diff)
			}
		}
	})
}

// What the database says of its rows is an error or rows: their cells may be anything.
func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"headings":["name","ofport","external_ids"],"data":[["br",["set",[]],["map",[["a","b"]]]],["x",7]]}`))
	f.Add([]byte(`{"headings":["name","bridges"],"data":[["br",["uuid","a"]],["y",["set",[["uuid","a"],["uuid","b"]]]]]}`))
	f.Fuzz(func(_ *testing.T, reply []byte) {
		s := &Switch{Exec: func(context.Context, io.Reader, string, ...string) ([]byte, error) { return reply, nil }}
		rows, _ := s.list(context.Background(), "Interface", nil, interfaceColumns())
		for _, row := range rows {
			row.bridge()
			row.iface()
			for _, cell := range row {
				references(cell)
			}
		}
	})
}
