package vswitch

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
)

// recording notes each command, and what it is given to read, before next runs it.
func recording(next Exec, commands *[]string) Exec {
	return func(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
		line := command + " " + strings.Join(args, " ")
		if stdin != nil {
			read, err := io.ReadAll(stdin)
			if err != nil {
				return nil, err
			}
			line += "\n" + string(read)
			stdin = bytes.NewReader(read)
		}
		*commands = append(*commands, line)
		return next(ctx, stdin, command, args...)
	}
}

func TestCommands(t *testing.T) {
	const cookie, mask = 0xca05e3a1_00000000, 0xffffffff_00000000
	endpoint := func(id string, last byte) fabric.Endpoint {
		return fabric.Endpoint{ID: id, MAC: fabric.MAC{2, 0, 0, 0, 0, last}}
	}
	named := endpoint("e1", 1)
	named.Name = "web"
	for name, test := range map[string]struct {
		run  func(context.Context, *Switch) error
		want string
	}{
		"bridge": {
			func(ctx context.Context, s *Switch) error { return s.AddBridge(ctx, "netdev") },
			`ovs-vsctl --may-exist add-br br -- set Bridge br datapath_type=netdev fail_mode=secure external_ids:causeway-bridge="br"`,
		},
		"tunnel": {
			func(ctx context.Context, s *Switch) error {
				return s.AddTunnel(ctx, "cwvxlan", Tunnel{Kind: "vxlan", VTEP: netip.MustParseAddr("fd99::1"), Port: 8472})
			},
			`ovs-vsctl --may-exist add-port br cwvxlan -- set Interface cwvxlan type=vxlan options:dst_port="8472" options:key="flow"` +
				` options:local_ip="fd99::1" options:remote_ip="flow" external_ids:causeway-tunnel="vxlan"`,
		},
		"ports": {
			func(ctx context.Context, s *Switch) error {
				return s.AddPorts(ctx, fabric.Network{ID: "n", Name: "foo"}, []fabric.Endpoint{named, endpoint("e2", 2)})
			},
			`ovs-vsctl --may-exist add-port br cw8b5cc4df7e -- set Interface cw8b5cc4df7e external_ids:attached-mac="02:00:00:00:00:01"` +
				` external_ids:causeway-container="web" external_ids:causeway-endpoint="e1" external_ids:causeway-name="foo"` +
				` external_ids:causeway-network="n" external_ids:iface-id="e1"` +
				` -- --may-exist add-port br cwac0f09c0f8 -- set Interface cwac0f09c0f8 external_ids:attached-mac="02:00:00:00:00:02"` +
				` external_ids:causeway-endpoint="e2" external_ids:causeway-name="foo" external_ids:causeway-network="n" external_ids:iface-id="e2"`,
		},
		"ports deleted": {
			func(ctx context.Context, s *Switch) error { return s.DeletePorts(ctx, "cwgre", "cwvxlan") },
			"ovs-vsctl --if-exists del-port br cwgre -- --if-exists del-port br cwvxlan",
		},
		"ports labelled": {
			func(ctx context.Context, s *Switch) error {
				return s.Label(ctx, map[string]string{"cw2": "db", "cw1": "web"})
			},
			`ovs-vsctl --no-wait -- --if-exists set Interface cw1 external_ids:causeway-container="web"` +
				` -- --if-exists set Interface cw2 external_ids:causeway-container="db"`,
		},
		"flows read": {
			func(ctx context.Context, s *Switch) error {
				_, err := s.DumpFlows(ctx, cookie, mask, "table=50")
				return err
			},
			"ovs-ofctl -O OpenFlow15 --no-stats dump-flows br cookie=0xca05e3a100000000/0xffffffff00000000,table=50",
		},
		"flows and groups written": {
			func(ctx context.Context, s *Switch) error {
				return s.Write(ctx, Change{
					Remove:       []Flow{{Cookie: 1, Table: 30, Priority: 100, Match: "in_port=1", Actions: "drop"}},
					Add:          []Flow{{Cookie: 1, Table: 20, Actions: "goto_table:30"}},
					SetGroups:    []Group{{5, ",bucket=bucket_id:0,actions=output:1"}},
					RemoveGroups: []uint32{6},
				})
			},
			"ovs-ofctl -O OpenFlow15 bundle br -\n" +
				"group add_or_mod group_id=5,type=all,bucket=bucket_id:0,actions=output:1\n" +
				"flow delete_strict cookie=0x1/-1,table=30,priority=100,in_port=1\n" +
				"flow add cookie=0x1,table=20,priority=0,actions=goto_table:30\n" +
				"group delete group_id=6\n",
		},
		"flows of a cookie deleted": {
			func(ctx context.Context, s *Switch) error { return s.DeleteCookie(ctx, cookie|1) },
			"ovs-ofctl -O OpenFlow15 del-flows br cookie=0xca05e3a100000001/-1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var commands []string
			nothing := func(context.Context, io.Reader, string, ...string) ([]byte, error) { return nil, nil }
			if err := test.run(t.Context(), &Switch{Exec: recording(nothing, &commands), bridge: "br"}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{test.want}, commands); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRowsAreRead(t *testing.T) {
	for name, test := range map[string]struct {
		reply string
		want  []Interface
	}{
		"columns in another order": {
			`{"headings":["ofport","name","type","external_ids","options","error"],
			  "data":[[2,"cwgre","gre",["map",[["causeway-tunnel","gre"]]],["map",[["key","flow"]]],["set",[]]],
			          [-1,"gone","",["map",[]],["map",[]],"no such device"]]}`,
			[]Interface{
				{Name: "cwgre", Type: "gre", Port: 2, ExternalIDs: map[string]string{"causeway-tunnel": "gre"}, Options: map[string]string{"key": "flow"}},
				{Name: "gone", ExternalIDs: map[string]string{}, Options: map[string]string{}, Error: "no such device"},
			},
		},
		"no rows": {`{"headings":["name","type","external_ids","options","ofport","error"],"data":[]}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var commands []string
			reply := func(context.Context, io.Reader, string, ...string) ([]byte, error) { return []byte(test.reply), nil }
			got, err := (&Switch{Exec: recording(reply, &commands), bridge: "br"}).Interfaces(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			want := []string{"ovs-vsctl --format=json --columns=name,type,external_ids,options,ofport,error list Interface"}
			if diff := cmp.Diff(want, commands); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAFailedCommandTellsItsCause(t *testing.T) {
	exec := execIn(t.TempDir())
	for command, want := range map[string]string{
		"causeway-has-no-such-command": "causeway-has-no-such-command is not on the PATH: install openvswitch-switch",
		"false":                        "false: exit status 1",
	} {
		if _, err := exec(t.Context(), nil, command); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", command, err, want)
		}
	}
	if _, err := exec(t.Context(), nil, "sh", "-c", "echo no bridge named br >&2; exit 1"); err == nil || err.Error() != "no bridge named br" {
		t.Errorf("got %v", err)
	}
}
