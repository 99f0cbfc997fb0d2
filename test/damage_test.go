package test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/lab"
)

// TestDamagedRecords damages records in etcd under running containers: their
// traffic runs on, and status says what is wrong.
func TestDamagedRecords(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, Store: lab.StoreEtcd})
	c.network("dented", "--subnet=10.60.0.0/24")
	first := c.host(1).run("dented1", "--net=dented")
	second := c.host(2).run("dented2", "--net=dented")
	first.pings(second.addr("dented"))
	var network fabric.Network
	for _, listed := range c.clusterNetworks(1) {
		if listed.Name == "dented" {
			network = listed.Network
		}
	}
	key := "networks/" + network.ID
	for _, test := range []struct {
		name, says     string
		damage, repair func(*cluster)
	}{
		{"deleted network", "record of network dented was deleted",
			func(c *cluster) { c.record(key, nil) }, func(c *cluster) { c.record(key, network) }},
		{"changed mode", "the mode of network dented was changed",
			func(c *cluster) {
				changed := network
				changed.Mode, changed.Parent = fabric.ModeUnderlay, "eth0"
				c.record(key, changed)
			}, func(c *cluster) { c.record(key, network) }},
		{"unreadable network", key,
			func(c *cluster) { c.record(key, "nonsense") }, func(c *cluster) { c.record(key, network) }},
		{"unreadable network at a start", "nothing is pruned until it is there",
			func(c *cluster) {
				c.record(key, "nonsense")
				if err := c.host(1).Causeway.Restart(c.Context()); err != nil {
					c.Fatal(err)
				}
			}, func(c *cluster) { c.record(key, network) }},
		{"absurd MTU", "999999999",
			func(c *cluster) {
				c.record("hosts/x", map[string]any{"name": "x", "vtep": "10.99.0.77", "mtu": 999999999})
			},
			func(c *cluster) { c.record("hosts/x", nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := c.sub(t)
			stop := c.steadyFrom(first, second.addr("dented"))
			test.damage(c)
			eventually(t, "status says it", func() error { return c.host(1).shows(test.says, "status") })
			test.repair(c)
			eventually(t, "status has no troubles", func() error { return c.host(1).shows("no troubles", "status") })
			stop()
		})
	}
}

// record writes a record to the lab's etcd, past causeway; nil deletes it.
func (c *cluster) record(key string, value any) {
	c.Helper()
	encode := func(text []byte) string { return base64.StdEncoding.EncodeToString(text) }
	call, body := "deleterange", fmt.Sprintf(`{"key":%q}`, encode([]byte("/causeway/v1/"+key)))
	if value != nil {
		text, err := json.Marshal(value)
		if err != nil {
			c.Fatal(err)
		}
		call, body = "put", fmt.Sprintf(`{"key":%q,"value":%q}`, encode([]byte("/causeway/v1/"+key)), encode(text))
	}
	c.etcd("kv/"+call, "", body)
}
