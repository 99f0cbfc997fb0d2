package test

import (
	"maps"
	"slices"
	"testing"

	"github.com/causeway-net/causeway/lab"
)

// capabilities are what every tunnelled data plane gives its users.
func capabilities() map[string]func(*cluster) {
	return map[string]func(*cluster){
		"ping and TCP between hosts":       pingAndTCP,
		"same subnet twice":                sameSubnetTwice,
		"internal":                         internalNetwork,
		"chosen address and MAC":           chosenAddress,
		"dual stack":                       dualStack,
		"broadcast and multicast":          broadcastAndMulticast,
		"causeway restarted under traffic": pluginRestart,
		"published port and way out":       publishedPort,
		"way out by its own gateway":       wayOut,
		"choice of gateways":               gatewayChosen,
		"connect and disconnect":           connectDisconnect,
		"shared sandbox":                   sharedSandbox,
		"from none onto the network":       fromNone,
		"restart and recreate":             restartAndRecreate,
		"MTU":                              mtu,
		"intrusion":                        intrusion,
		"trace":                            tracedAcross,
	}
}

// runAll runs the capabilities on the cluster, in the order of their names.
func (c *cluster) runAll(t *testing.T, only ...string) {
	all := capabilities()
	if len(only) == 0 {
		only = slices.Sorted(maps.Keys(all))
	}
	for _, name := range only {
		t.Run(name, func(t *testing.T) { all[name](c.sub(t)) })
	}
}

func TestVXLAN(t *testing.T) {
	c := up(t, lab.Options{Hosts: 3, WireGuard: true, DockerArgs: []string{"--live-restore"}})
	gone := func(*cluster) {}
	t.Run("key rotation", func(t *testing.T) { keyRotation(c.sub(t), func(then func(*cluster)) { gone = then }) })
	// What restarts causeway or takes its devices away comes first: the wait for the last
	// keys begins anew with it.
	t.Run("encryption", func(t *testing.T) { encryption(c.sub(t)) })
	t.Run("sends as itself", func(t *testing.T) { sendsAsItself(c.sub(t)) })
	t.Run("changed by hand", func(t *testing.T) { changedByHand(c.sub(t)) })
	c.runAll(t)
	t.Run("the last keys are gone", func(t *testing.T) { gone(c.sub(t)) })
	t.Run("faults", func(t *testing.T) { twoFaults(c.sub(t)) })
}

func TestVXLANOverIPv6(t *testing.T) {
	up(t, lab.Options{Hosts: 2, VTEP6: true, Store: lab.StoreEtcd}).runAll(t,
		"ping and TCP between hosts", "dual stack", "broadcast and multicast", "MTU")
}
