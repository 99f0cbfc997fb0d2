package mirror

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// An engine whose docker_gwbridge has the subnet of a network is reported; once the
// bridge is removed, it comes back with a subnet that no engine picks.
func TestGatewayBridge(t *testing.T) {
	engine := newFakeEngine(object{"Id": oldID, "Name": "foo", "Scope": "local", "Driver": "causeway"})
	subnet := fabric.Subnet{Prefix: netip.MustParsePrefix("172.18.0.0/16")}
	r := start(t, engine, storetest.New(t),
		kvstore.Put(records.NetworkKey(netID), fabric.Network{ID: netID, Name: "foo", Mode: fabric.ModeVXLAN, Subnets: []fabric.Subnet{subnet}}),
		kvstore.Put(records.AttachmentKey("h2", oldID), records.Attachment{Network: netID}))
	r.tells("containers cannot start here on networks with addresses of this engine's docker_gwbridge: foo (172.18.0.0/16). " +
		"Stop the containers that use docker_gwbridge and remove it with docker network rm: it is created again with another subnet")
	engine.destroy(t, strings.Repeat("f", 64))
	r.waitFor("a new gateway bridge", func() bool { return engine.has(gatewayBridge) })
	r.tells()
	engine.set(func() {
		made := engine.networks[len(engine.networks)-1]
		ipam, _ := made["IPAM"].(object)
		if configs, _ := ipam["Config"].([]any); len(configs) != 1 || configs[0].(object)["Subnet"] != gatewaySubnet {
			t.Errorf("it was created as %v", made)
		}
	})
}
