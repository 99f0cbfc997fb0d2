package gateway

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/await"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/lantest"
	"github.com/causeway-net/causeway/internal/nl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a host with Docker's policy, a machine outside (10.9.0.9, fd09::9) that has no
// route to containers, and containers in namespaces of their own.
type rig struct {
	*testing.T
	host, outside *lantest.Machine
	gateways      *Gateways
	board         *health.Board
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, host: lantest.NewMachine(t, "host"), outside: lantest.NewMachine(t, "outside")}
	r.board = health.New(silent())
	for _, machine := range []*lantest.Machine{r.host, r.outside} {
		machine.Run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0") // it waits a random time even without probes
	}
	r.host.IP("link add eth0 type veth peer name eth0 netns " + r.outside.Path())
	for machine, number := range map[*lantest.Machine]string{r.host: "1", r.outside: "9"} {
		machine.IP(fmt.Sprintf("addr add 10.9.0.%s/24 dev eth0\n addr add fd09::%s/64 dev eth0 nodad\n link set eth0 up", number, number))
	}
	// The kernel takes up to a second to see that a pair is up, while others come and go.
	await.Within(t, 5*time.Second, "the LAN is up", func() error {
		_, err := r.host.Command("sh", "-c", "ping -n -c 1 -W 1 10.9.0.9 && ping -n -c 1 -W 1 fd09::9")
		return err
	})
	// As engine 28 has it, with a bridge of its own whose port 80 is published.
	for _, tool := range []string{"iptables-nft", "ip6tables-nft"} {
		r.host.Script(strings.ReplaceAll(`T -P FORWARD DROP
			T -N DOCKER-USER
			T -N DOCKER-BRIDGE
			T -A DOCKER-BRIDGE -o docker0 ! -i docker0 -j DROP
			T -A FORWARD -j DOCKER-USER
			T -A FORWARD -j DOCKER-BRIDGE`, "T", tool))
	}
	r.restart()
	return r
}

func (r *rig) restart() {
	r.Helper()
	handle, err := nl.Open(r.host.NS)
	r.must(err)
	r.Cleanup(func() { r.must(handle.Close()) })
	r.gateways = New(Config{Mode: fabric.ModeVXLAN, Host: handle, Board: r.board, Log: silent()})
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// network is that of a number, with one subnet of each family.
func network(number int) fabric.Network {
	subnet := func(prefix, gateway string) fabric.Subnet {
		return fabric.Subnet{Prefix: netip.MustParsePrefix(fmt.Sprintf(prefix, number)), Gateway: netip.MustParseAddr(fmt.Sprintf(gateway, number))}
	}
	return fabric.Network{
		ID: fmt.Sprintf("network-%d", number), Mode: fabric.ModeVXLAN,
		Subnets: []fabric.Subnet{subnet("172.31.%d.0/24", "172.31.%d.1"), subnet("fd31:%d::/64", "fd31:%d::1")},
	}
}

// start runs a container that has the address .2 of the network: the other end of the
// gateway's interface stands for the data plane.
func (r *rig) start(network fabric.Network) *lantest.Machine {
	r.Helper()
	gateway, ok := r.gateways.Admit(network)
	if !ok {
		r.Fatalf("the gateway is not admitted: %v", r.board.Faults())
	}
	container := lantest.NewMachine(r.T, "container of "+network.ID)
	r.host.IP(fmt.Sprintf("link add %s address %s type veth peer name eth0 netns %s", gateway.Link, gateway.MAC, container.Path()))
	for _, addr := range gateway.Addrs {
		container.IP(fmt.Sprintf("addr add %s/%d dev eth0 nodad", addr.Addr().Next(), addr.Bits()))
	}
	container.IP("link set eth0 up")
	r.ensure(network)
	for _, addr := range gateway.Addrs {
		container.IP(fmt.Sprintf("route add default via %s", addr.Addr()))
	}
	return container
}

func (r *rig) ensure(network fabric.Network) (repaired int) {
	r.Helper()
	gateway, _ := Of(network)
	repaired, err := r.gateways.Ensure(r.Context(), gateway)
	r.must(err)
	return repaired
}

// text is what the kernel has of the gateways.
func (r *rig) text() string {
	r.Helper()
	var all strings.Builder
	tables, _ := r.host.Command("sh", "-c", "nft -s list table ip causeway-gateway-vxlan; nft -s list table ip6 causeway-gateway-vxlan")
	all.WriteString(tables)
	// Whether a link runs follows its being up with a delay (the kernel's linkwatch).
	all.WriteString(r.host.Run("sh", "-c", "iptables-nft -S FORWARD; ip6tables-nft -S FORWARD; (ip -br addr; ip -br link) | grep cwg | sed -E 's/ (UP|DOWN|UNKNOWN) +/ /; s/NO-CARRIER,//'"))
	return all.String()
}

func pings(from *lantest.Machine, addr string) bool {
	_, err := from.Command("ping", "-n", "-c", "1", "-W", "1", addr)
	return err == nil
}

func silent() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}
