package nl

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	rtnl "github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Pair is the veth pair of a local endpoint. Docker takes one end, whose name,
// MAC and MTU are set; the host's end is what the data plane works on.
type Pair struct {
	Endpoint string     // Docker's EndpointID
	MAC      fabric.MAC // of the container's end
	MTU      int        // of the container's end, in bytes
	HostMTU  int        // of the host's end; zero for the same
	Alias    string     // of the host's end: says whose it is
	Master   int        // index of the host's end's bridge; zero for none
	// Link is the name of the container's end; empty for that of [ContainerEnd].
	Link string
}

const (
	hostPrefix      = "cw"
	containerPrefix = "cwc"
)

// HostEnd is the name of the end that stays.
func HostEnd(endpoint string) string { return fabric.DeviceName(hostPrefix, endpoint) }

// ContainerEnd is the name of the end that Docker takes.
func ContainerEnd(endpoint string) string { return fabric.DeviceName(containerPrefix, endpoint) }

// IsHostEnd says whether name has the form of one that [HostEnd] gives.
func IsHostEnd(name string) bool {
	return strings.HasPrefix(name, hostPrefix) && len(name) == len(HostEnd(""))
}

// Ensure creates the pair, the container's end in the namespace of host and the
// other in that of home, which may be the same; idempotent. A pair whose other
// end is not where Docker can take it is recreated. It returns the host's end, up.
func (p Pair) Ensure(host, home *Handle) (netlink.Link, error) {
	end, err := p.find(host, home)
	if errors.Is(err, ErrNotFound) {
		end, err = p.create(host, home)
	}
	if err != nil {
		return nil, fmt.Errorf("veth pair of endpoint %.12s: %w", p.Endpoint, err)
	}
	if err := p.equip(home, end); err != nil {
		// Half a pair would be in the way of the next Apply. Its container has it not yet.
		return nil, errors.Join(fmt.Errorf("veth pair of endpoint %.12s: %w", p.Endpoint, err), home.Remove(HostEnd(p.Endpoint)))
	}
	return end, nil
}

// find gives the host's end of a pair that is whole and as wanted.
func (p Pair) find(host, home *Handle) (netlink.Link, error) {
	end, err := home.Link(HostEnd(p.Endpoint))
	if err != nil {
		return nil, err
	}
	other, err := host.Link(p.link())
	if err != nil {
		return nil, err
	}
	have := other.Attrs()
	if have.ParentIndex != end.Attrs().Index || have.HardwareAddr.String() != p.MAC.String() || have.MTU != p.MTU {
		return nil, ErrNotFound
	}
	return end, nil
}

// create is written for few requests: with many containers at once each waits for the
// kernel's lock of all links.
func (p Pair) create(host, home *Handle) (netlink.Link, error) {
	pair := &netlink.Veth{
		LinkAttrs:        netlink.NewLinkAttrs(),
		PeerName:         p.link(),
		PeerHardwareAddr: p.MAC.HardwareAddr(),
		PeerNamespace:    netlink.NsFd(host.NS()),
	}
	pair.Name = HostEnd(p.Endpoint)
	pair.MTU, pair.PeerMTU = p.hostMTU(), uint32(p.MTU)
	pair.HardwareAddr = hostMAC(p.MAC).HardwareAddr()
	err := home.LinkAdd(pair)
	if errors.Is(err, unix.EEXIST) { // one that is not as wanted, or half of one
		if err := errors.Join(home.Remove(pair.Name), host.Remove(pair.PeerName)); err != nil {
			return nil, err
		}
		err = home.LinkAdd(pair)
	}
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	// Until Docker moves the container's end, the host must not answer on it, even if
	// something sets it up. Links that change namespaces lose these settings.
	err = host.Isolate(pair.PeerName)
	if errors.Is(err, unix.EROFS) {
		err = nil
	}
	return pair, errors.Join(err, home.Silence(pair))
}

// hostMAC differs from the container's, and is higher than any other on a
// bridge, which therefore never takes it for its own.
func hostMAC(container fabric.MAC) fabric.MAC {
	const highest, next = 0xfe, 0xfa // locally administered unicast, both
	if container[0] == highest {
		container[0] = next
	} else {
		container[0] = highest
	}
	return container
}

func (p Pair) link() string { return cmp.Or(p.Link, ContainerEnd(p.Endpoint)) }

func (p Pair) hostMTU() int { return cmp.Or(p.HostMTU, p.MTU) }

// The kernel's BR_MAX_PORTS is 1,024, and no port has the number 0.
var errBridgeFull = errors.New("the network's bridge on this host has 1023 ports, and the kernel allows no more: run further containers on other hosts, or on another network")

// equip sets what the host's end needs, and sets it up.
func (p Pair) equip(home *Handle, end netlink.Link) error {
	request := rtnl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	message := rtnl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index, message.Flags, message.Change = int32(end.Attrs().Index), unix.IFF_UP, unix.IFF_UP
	request.AddData(message)
	request.AddData(rtnl.NewRtAttr(unix.IFLA_IFALIAS, []byte(p.Alias)))
	request.AddData(rtnl.NewRtAttr(unix.IFLA_MTU, rtnl.Uint32Attr(uint32(p.hostMTU()))))
	if p.Master != 0 {
		request.AddData(rtnl.NewRtAttr(unix.IFLA_MASTER, rtnl.Uint32Attr(uint32(p.Master))))
	}
	_, err := home.execute(request, 0)
	if errors.Is(err, unix.EXFULL) {
		return errBridgeFull
	}
	if err != nil {
		return fmt.Errorf("put it into the bridge and set it up: %w", err)
	}
	return nil
}
