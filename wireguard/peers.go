package wireguard

import (
	"fmt"
	"net"
	"net/netip"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/fabric"
)

// peer is another host, under its key.
type peer struct {
	// at is where its device answers, and addr what it has behind it.
	at   netip.AddrPort
	addr netip.Addr
}

// peersOf are hosts under each of their keys.
func peersOf(hosts map[string]fabric.Host) map[string]peer {
	peers := make(map[string]peer, len(hosts))
	for _, host := range hosts {
		if !host.VTEP.IsValid() {
			continue
		}
		for _, end := range host.AllEnds() {
			peers[end.Key] = peer{netip.AddrPortFrom(host.VTEP.Unmap(), end.Port), end.Addr()}
		}
	}
	return peers
}

// changes are the peers to write and the keys of those to delete.
func changes(before, now map[string]peer) (changed map[string]peer, gone []string) {
	changed = make(map[string]peer)
	for key, peer := range now {
		if have, ok := before[key]; !ok || have != peer {
			changed[key] = peer
		}
	}
	for key := range before {
		if _, ok := now[key]; !ok {
			gone = append(gone, key)
		}
	}
	return changed, gone
}

// greet sends each peer a packet from an address of this host's, for which the device
// makes a session. Those who have one with a device that was here before would notice
// after some 15 seconds otherwise that it is gone.
func greet(from netip.Addr, peers map[string]peer) error {
	const discard = 9 // the port of RFC 863
	own := net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	for _, peer := range peers {
		socket, err := net.DialUDP("udp6", own, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer.addr, discard)))
		if err != nil {
			return fmt.Errorf("greet %s: %w", peer.at.Addr(), err)
		}
		_, _ = socket.Write([]byte{0}) // there may be nobody
		if err := socket.Close(); err != nil {
			return fmt.Errorf("greet %s: %w", peer.at.Addr(), err)
		}
	}
	return nil
}

// configurePeers writes peers of a device.
func configurePeers(device string, changed map[string]peer, gone []string) error {
	var configs []wgtypes.PeerConfig
	for text, peer := range changed {
		key, err := wgtypes.ParseKey(text)
		if err != nil {
			return fmt.Errorf("peer of %s: %w", device, err)
		}
		configs = append(configs, wgtypes.PeerConfig{
			PublicKey: key, Endpoint: net.UDPAddrFromAddrPort(peer.at), ReplaceAllowedIPs: true,
			AllowedIPs: []net.IPNet{{IP: peer.addr.AsSlice(), Mask: net.CIDRMask(peer.addr.BitLen(), peer.addr.BitLen())}},
		})
	}
	for _, text := range gone {
		key, err := wgtypes.ParseKey(text)
		if err != nil {
			return fmt.Errorf("peer of %s: %w", device, err)
		}
		configs = append(configs, wgtypes.PeerConfig{PublicKey: key, Remove: true})
	}
	return configure(device, wgtypes.Config{Peers: configs})
}

// configure opens a client each time: one that is older than the kernel's module, which
// comes with the first device, does not know of it.
func configure(device string, config wgtypes.Config) error {
	client, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("configure %s: %w", device, err)
	}
	defer func() { _ = client.Close() }()
	if err := client.ConfigureDevice(device, config); err != nil {
		return fmt.Errorf("configure %s: %w", device, err)
	}
	return nil
}

// configuration reads a device.
func configuration(device string) (*wgtypes.Device, error) {
	client, err := wgctrl.New()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", device, err)
	}
	defer func() { _ = client.Close() }()
	have, err := client.Device(device)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", device, err)
	}
	return have, nil
}

// peersThere are those that the device has; one with other addresses than ours has is no
// peer of ours.
func peersThere(have *wgtypes.Device) map[string]peer {
	peers := make(map[string]peer, len(have.Peers))
	for _, p := range have.Peers {
		one := peer{}
		if p.Endpoint != nil {
			one.at = netip.AddrPortFrom(p.Endpoint.AddrPort().Addr().Unmap(), p.Endpoint.AddrPort().Port())
		}
		if len(p.AllowedIPs) == 1 {
			one.addr, _ = netip.AddrFromSlice(p.AllowedIPs[0].IP)
		}
		peers[p.PublicKey.String()] = one
	}
	return peers
}
