package driver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/hosttest"
	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

// Docker's IDs of one network on three hosts.
var (
	dockerID1 = strings.Repeat("1a", 32)
	dockerID2 = strings.Repeat("2b", 32)
	dockerID3 = strings.Repeat("3c", 32)
)

func TestEndpointsOfOneNetworkArePeers(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo"))
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo"))
	id := networkID(dockerID1)

	first := must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	want := fabric.DeriveMAC(id, netip.MustParseAddr("192.168.1.2")).String()
	if first.Interface.MacAddress != want {
		t.Errorf("MAC %s, want %s", first.Interface.MacAddress, want)
	}
	joined := must[network.JoinResponse](h1, "Join", &network.JoinRequest{NetworkID: dockerID1, EndpointID: "e1"})
	if joined.InterfaceName.SrcName != fabric.DeviceName("cwc", "e1") || joined.InterfaceName.DstPrefix != "eth" || joined.Gateway != "192.168.1.1" {
		t.Errorf("Join answers %+v", joined)
	}
	publishing := map[string]any{labelPorts: []any{map[string]any{"Proto": 6, "Port": 80, "HostPort": 8080}}}
	if joined := must[network.JoinResponse](h1, "Join", &network.JoinRequest{NetworkID: dockerID1, EndpointID: "e1", Options: publishing}); joined.Gateway != "" {
		t.Errorf("a container that publishes ports has the gateway %s: Docker can't publish them", joined.Gateway)
	}
	enter(h2, dockerID2, "e2", "192.168.1.3/24")

	for _, pair := range []struct {
		host *host
		peer string
		vtep string
	}{{h1, "e2", "10.99.0.2"}, {h2, "e1", "10.99.0.1"}} {
		eventually(t, pair.host.Name+" sees "+pair.peer, func() bool {
			s, _ := pair.host.Plane.Segment(id)
			return len(s.Remote) == 1 && s.Remote[0].ID == pair.peer && s.Remote[0].VTEP.String() == pair.vtep &&
				len(s.Flood) == 1 && s.Flood[0].String() == pair.vtep
		})
	}

	must[empty](h2, "Leave", &network.LeaveRequest{NetworkID: dockerID2, EndpointID: "e2"})
	must[empty](h2, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID2, EndpointID: "e2"})
	eventually(t, "h2 lets the network go", func() bool { _, ok := h2.Plane.Segment(id); return !ok })
	eventually(t, "h1 has no peer", func() bool { s, _ := h1.Plane.Segment(id); return len(s.Remote) == 0 && len(s.Local) == 1 })
}

func TestLastRemovalLeavesNoRecord(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo", "vni=77"))
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo"))
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	must[empty](h2, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID2})
	if _, ok := contents(t, store)[records.NetworkKey(networkID(dockerID1))]; !ok {
		t.Error("the network went with the first of its hosts")
	}
	for range 2 { // Docker repeats itself
		must[empty](h1, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: "e1"})
		must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	}
	if left := contents(t, store); len(left) > 0 {
		t.Errorf("left in the store: %v", left)
	}
}

func TestRestartNeedsNoCreateNetwork(t *testing.T) {
	store := storetest.New(t)
	first := startHost(t, store, 1)
	must[empty](first, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	enter(first, dockerID1, "e1", "192.168.1.2/24")
	before, _ := first.Plane.Segment(networkID(dockerID1))
	first.Stop()

	second := startHost(t, store, 1)
	second.Plane.Set(func(l *hosttest.State) { l.Living["e1"] = true })
	eventually(t, "the segment is applied again", func() bool { _, ok := second.Plane.Segment(networkID(dockerID1)); return ok })
	after, _ := second.Plane.Segment(networkID(dockerID1))
	if diff := cmp.Diff(fmt.Sprint(before), fmt.Sprint(after)); diff != "" {
		t.Error(diff)
	}
	must[network.CreateEndpointResponse](second, "CreateEndpoint", endpointOn(dockerID1, "e2", "192.168.1.3/24"))
}

func TestBadInputChangesNothing(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24", "causeway.network=foo", "vni=77"))
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=foo"))
	must[network.CreateEndpointResponse](h1, "CreateEndpoint", endpointOn(dockerID1, "e1", "192.168.1.2/24"))
	before := contents(t, store)
	for name, test := range map[string]struct {
		method  string
		request any
		want    string
		on      *host // h1 unless set
	}{
		"gateway of underlay":  {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=underlay", "parent=eth1", "gateway=docker"), want: "option gateway has no effect here: the gateway is the physical network's router"},
		"masquerade, Docker's": {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "gateway=docker", "masquerade=false"), want: "option masquerade has no effect here: with gateway=docker it is Docker's"},
		"gateway elsewhere":    {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "gateway=none"), want: `option gateway="none" must be one of host, docker`},
		"unknown option":       {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "colour=red"), want: `option "colour" is not known; known are allow, block, bridge, broadcast-rate, causeway.network`},
		"vni too large":        {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "vni=16777216"), want: `option vni="16777216" must be a number from 1 to 16777213`},
		"encrypted underlay":   {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=underlay", "parent=eth1", "encrypted=true"), want: "option encrypted is not for mode=underlay, where nothing is tunnelled: use mode=vxlan, mode=ovs or mode=routed"},
		"encrypted switch":     {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=ovs", "tunnel=geneve", "encrypted=true"), want: "options encrypted and tunnel=geneve exclude each other: what is encrypted goes through the kernel's VXLAN"},
		"encrypted and direct": {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=routed", "via=direct", "encrypted="), want: "options encrypted and via=direct exclude each other"},
		"vni taken":            {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "vni=77"), want: "vni 77 is taken by network foo"},
		"vni of another":       {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "vni=4444"), want: "vni 4444 is in use by docker's overlay"},
		"bad CIDR":             {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/40"), want: `subnet "10.1.0.0/40" is not a CIDR`},
		"no subnet":            {method: "CreateNetwork", request: &network.CreateNetworkRequest{NetworkID: dockerID3}, want: "the network has no subnet: give --subnet"},
		"overlap":              {method: "CreateNetwork", request: creation(dockerID3, "192.168.0.0/16", "mode=underlay", "parent=eth0"), want: "subnet 192.168.0.0/16 overlaps 192.168.1.0/24 of network foo"},
		"overlaps the VTEP":    {method: "CreateNetwork", request: creation(dockerID3, "10.99.0.128/25"), want: "subnet 10.99.0.128/25 overlaps 10.99.0.0/24, the network of this host's VTEP 10.99.0.1"},
		"no such plane":        {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=ovs"), want: "this causeway has no data plane for mode=ovs"},
		"mode that is none":    {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "mode=magic"), want: `option mode="magic" must be one of vxlan, ovs, underlay, routed`},
		"option of a mode":     {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "parent=eth0"), want: "option parent is for mode=underlay, and this network has mode=vxlan"},
		"joined otherwise":     {method: "CreateNetwork", request: creation(dockerID3, "10.1.0.0/24", "causeway.network=foo"), want: "network foo has the subnets [192.168.1.0/24] in the cluster, not [10.1.0.0/24]"},
		"joined with a vni":    {method: "CreateNetwork", request: creation(dockerID3, "192.168.1.0/24", "causeway.network=foo", "vni=5"), want: "network foo has vni=77 in the cluster, not 5"},
		"endpoint, no network": {method: "CreateEndpoint", request: endpointOn(dockerID3, "e9", "192.168.1.9/24"), want: "is not known to causeway on host h1: remove it and create it again"},
		"address in use": {on: h2, method: "CreateEndpoint", request: endpointOn(dockerID2, "e9", "192.168.1.2/24"),
			want: "address 192.168.1.2 on network foo is in use by host h1: start the container with another --ip"},
		"address of the gateway": {method: "CreateEndpoint", request: endpointOn(dockerID1, "e9", "192.168.1.1/24"), want: "address 192.168.1.1 on network foo is in use as the gateway"},
		"address out of pool":    {method: "CreateEndpoint", request: endpointOn(dockerID1, "e9", "10.0.0.1/24"), want: "address 10.0.0.1 is in no subnet of network foo, which has [192.168.1.0/24]"},
		"no address":             {method: "CreateEndpoint", request: endpointOn(dockerID1, "e9", ""), want: "endpoint on network foo came without an address"},
		"bad MAC":                {method: "CreateEndpoint", request: &network.CreateEndpointRequest{NetworkID: dockerID1, EndpointID: "e9", Interface: &network.EndpointInterface{Address: "192.168.1.9/24", MacAddress: "01:00:5e:00:00:01"}}, want: "MAC 01:00:5e:00:00:01 is not a station's address"},
		"gateway check":          {method: "GwAllocCheck", request: &gwAllocCheck{Options: map[string]any{labelGeneric: map[string]any{"colour": "red"}}}, want: `option "colour" is not known`},
		"options no map":         {method: "CreateNetwork", request: &network.CreateNetworkRequest{NetworkID: dockerID3, Options: map[string]any{labelGeneric: "x"}}, want: "are not a map"},
		"no NetworkID":           {method: "CreateNetwork", request: creation("", "10.1.0.0/24"), want: `NetworkID "" is not one of Docker's`},
		"NetworkID is a path":    {method: "CreateNetwork", request: creation("../../x", "10.1.0.0/24"), want: `NetworkID "../../x" is not one of Docker's`},
		"too many subnets":       {method: "CreateNetwork", request: large(dockerID3, 31, 0), want: "the network has 31 subnets, and may have 30"},
		"too many aux addresses": {method: "CreateNetwork", request: large(dockerID3, 7, 7), want: "the network has 49 aux addresses, and may have 48"},
		"delete of nothing":      {method: "DeleteNetwork", request: &network.DeleteNetworkRequest{}, want: "the request names no network"},
		"endpoint of nothing":    {method: "CreateEndpoint", request: endpointOn("", "e9", "192.168.1.9/24"), want: "the request names no network"},
		"endpoint without an ID": {method: "CreateEndpoint", request: endpointOn(dockerID1, "", "192.168.1.9/24"), want: "the request names no endpoint"},
		"the subnet's address":   {method: "CreateEndpoint", request: endpointOn(dockerID1, "e9", "192.168.1.0/24"), want: "address 192.168.1.0 on network foo is that of the subnet 192.168.1.0/24 itself, or its broadcast address"},
		"the broadcast address":  {method: "CreateEndpoint", request: endpointOn(dockerID1, "e9", "192.168.1.255/24"), want: "address 192.168.1.255 on network foo is that of the subnet"},
		"join of a stranger":     {method: "Join", request: &network.JoinRequest{NetworkID: dockerID3, EndpointID: "e1"}, want: "is not known to causeway on host h1"},
	} {
		t.Run(name, func(t *testing.T) {
			on := h1
			if test.on != nil {
				on = test.on
			}
			if _, err := call[empty](on, test.method, test.request); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if diff := cmp.Diff(before, contents(t, store)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// large is a creation with many subnets and aux addresses in each.
func large(dockerID string, subnets, aux int) *network.CreateNetworkRequest {
	request := creation(dockerID, "10.200.0.0/24")
	request.IPv4Data = nil
	for n := range subnets {
		data := &network.IPAMData{AddressSpace: "LocalDefault", Pool: fmt.Sprintf("10.200.%d.0/24", n), AuxAddresses: map[string]any{}}
		data.Gateway = fmt.Sprintf("10.200.%d.1/24", n)
		for a := range aux {
			data.AuxAddresses[fmt.Sprint("aux", a)] = fmt.Sprintf("10.200.%d.%d", n, a+10)
		}
		request.IPv4Data = append(request.IPv4Data, data)
	}
	return request
}

func TestLargestNetworkFitsATransaction(t *testing.T) {
	store := limited{storetest.New(t)}
	h1 := startHost(t, store, 1)
	before := contents(t, store)
	request := large(dockerID1, 30, 1)
	for n := range 18 {
		request.IPv4Data[n].AuxAddresses["more"] = fmt.Sprintf("10.200.%d.20", n)
	}
	must[empty](h1, "CreateNetwork", request)
	must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	if diff := cmp.Diff(before, contents(t, store)); diff != "" {
		t.Error(diff)
	}
}

// limited is a store that takes no more in a transaction than an etcd does.
type limited struct{ kvstore.Store }

func (l limited) Commit(ctx context.Context, txn kvstore.Txn) (int64, error) {
	const most = 128
	if len(txn.If) > most || len(txn.Then) > most {
		return 0, fmt.Errorf("%d guards and %d writes are too many operations in a txn request", len(txn.If), len(txn.Then))
	}
	return l.Store.Commit(ctx, txn)
}

func TestJoinOfAMissingEndpointIsRefusedAtOnce(t *testing.T) {
	h1 := startHost(t, storetest.New(t), 1)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	begin := time.Now()
	_, err := call[network.JoinResponse](h1, "Join", &network.JoinRequest{NetworkID: dockerID1, EndpointID: "e9"})
	if err == nil || !strings.Contains(err.Error(), "endpoint e9 is not in the cluster's records") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second { // 10 s is what Docker waits
		t.Errorf("it took %v", took)
	}
}

func TestDeletesOfUnknownIDsSucceed(t *testing.T) {
	h1 := startHost(t, storetest.New(t), 1)
	must[empty](h1, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID1})
	must[empty](h1, "DeleteEndpoint", &network.DeleteEndpointRequest{NetworkID: dockerID1, EndpointID: "e1"})
	must[empty](h1, "Leave", &network.LeaveRequest{NetworkID: dockerID1, EndpointID: "e1"})
}

// An engine that dies while its mirror creates a network deletes it again. That
// must not delete the network on the other hosts.
func TestFailedCreationByAMirrorDetachesOnly(t *testing.T) {
	store := storetest.New(t)
	h1, h2 := startHost(t, store, 1), startHost(t, store, 2)
	must[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
	before := contents(t, store)
	must[empty](h2, "CreateNetwork", creation(dockerID2, "192.168.1.0/24", "causeway.network=id:"+networkID(dockerID1)))
	must[empty](h2, "DeleteNetwork", &network.DeleteNetworkRequest{NetworkID: dockerID2})
	if diff := cmp.Diff(before, contents(t, store)); diff != "" {
		t.Error(diff)
	}
}

// A clone of another host is served nothing that would touch the other's records.
func TestRefusedHostIsServedNothing(t *testing.T) {
	store := storetest.New(t)
	h1 := startHost(t, store, 1)
	eventually(t, "h1 is alive", func() bool { return h1.Has(t, records.AliveKey("h1")) })
	twin := startWith(t, store, 2, func(*Config) {}, func(o *hosttest.Options) { o.Host.Name = "h1" })
	eventually(t, "the twin is refused", func() bool { return twin.Member.Refusal() != nil })
	want := "host name h1 is in use by the host with VTEP 10.99.0.1: give --host-name"
	if _, err := call[empty](twin, "CreateNetwork", creation(dockerID2, "192.168.1.0/24")); err == nil || err.Error() != want {
		t.Errorf("the twin's CreateNetwork: %v", err)
	}
}

func TestCallsWhileTheStoreIsAway(t *testing.T) {
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{"http://127.0.0.1:9"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	h1 := startHost(t, store, 1)
	answer := make(chan error, 1)
	go func() {
		_, err := call[empty](h1, "CreateNetwork", creation(dockerID1, "192.168.1.0/24"))
		answer <- err
	}()
	if got := must[capabilities](h1, "GetCapabilities", struct{}{}); got.Scope != "local" || !got.GwAllocChecker {
		t.Errorf("capabilities %+v", got)
	}
	if err := <-answer; err == nil || !strings.Contains(err.Error(), "store http://127.0.0.1:9 unavailable: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzDecodeOptions(f *testing.F) {
	f.Add("vni", "77")
	f.Add("mtu", "-1")
	f.Add("vlan", "4095")
	f.Add("mode", "ovs")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := decodeOptions(map[string]any{labelGeneric: map[string]any{key: value}})
		if err != nil {
			if !strings.Contains(err.Error(), "option") && !strings.Contains(err.Error(), "needs") {
				t.Errorf("%q=%q: %v names no option", key, value, err)
			}
			return
		}
		if n := o.network; n.VNI > maxVNI || n.VLAN > 4094 || n.MTU < 0 || n.Mode == "" {
			t.Errorf("%q=%q gives %+v", key, value, n)
		}
	})
}
