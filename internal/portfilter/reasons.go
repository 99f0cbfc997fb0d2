package portfilter

// Reasons why a container's frame is dropped, as users read them.
const (
	SpoofedMAC       = "spoofed MAC"
	SpoofedARP       = "spoofed ARP sender"
	SpoofedIPv4      = "spoofed IPv4 source"
	SpoofedIPv6      = "spoofed IPv6 source"
	SpoofedNeighbour = "spoofed neighbour discovery"
	RouterMessage    = "router advertisement"
	DHCPAnswer       = "DHCP server answer"
	BridgeProtocol   = "bridge protocol"
	VLANTag          = "VLAN tag"
	OtherProtocol    = "other protocol"
	Malformed        = "malformed header"
	OverBroadcasts   = "over the broadcast rate"
	OverRate         = "over the rate"
)

// reasons is how many there are, in the order of filter.c.
const reasons = 13

func reasonText(reason int) string {
	return [reasons]string{
		SpoofedMAC, SpoofedARP, SpoofedIPv4, SpoofedIPv6, SpoofedNeighbour, RouterMessage, DHCPAnswer, BridgeProtocol,
		VLANTag, OtherProtocol, Malformed, OverBroadcasts, OverRate,
	}[reason]
}
