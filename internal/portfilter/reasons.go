package portfilter

// reasons is how many there are, in the order of filter.c.
const reasons = 13

// reasonText says what was dropped, as users read it.
func reasonText(reason int) string {
	return [reasons]string{
		"spoofed MAC", "spoofed ARP sender", "spoofed IPv4 source", "spoofed IPv6 source", "spoofed neighbour discovery",
		"router advertisement", "DHCP server answer", "bridge protocol", "VLAN tag", "other protocol", "malformed header",
		"over the broadcast rate", "over the rate",
	}[reason]
}
