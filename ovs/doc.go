// Package ovs is the data plane of mode=ovs: one Open vSwitch bridge for each
// host, one flow-based tunnel port for each tunnel type, and a pipeline of
// OpenFlow tables that is written from the segments.
//
// A frame's way. The container's veth ends on the bridge as a port; table 0
// tells by the port which network the frame is on, or by tunnel key and sender
// where it came through a tunnel. ARP and neighbour discovery are answered on
// the spot; a unicast frame goes to a local port, or into the tunnel of the
// host that has its MAC; broadcast and multicast go to the network's local
// ports and once to each host that has endpoints there. What no flow matches is
// dropped: every MAC and address of a network is in the records, nothing is
// learned.
//
//	table             match                                    action
//	 0 classify       in_port=container                        reg0=VNI, to 10
//	                  in_port=tunnel, tun_id=VNI, tun_src=VTEP reg0=VNI, reg1=1, to 30
//	10 anti-spoof     the container's own MAC and addresses,   to 20
//	                  in Ethernet, ARP, IPv4 and IPv6
//	20 neighbours     ARP or ND about the container's own      drop (an announcement)
//	                  ARP request for an endpoint of reg0      answer to in_port
//	                  ND solicitation for an endpoint of reg0  make it an answer, to 25
//	                  other ARP, ND and router discovery       drop
//	                  all else                                 to 30
//	25 ND answer      -                                        set the link address, to in_port
//	30 local          reg0, dl_dst=local MAC                   output to the container
//	                  group address                            to 50
//	                  reg1=0                                   to 40
//	40 remote         reg0, dl_dst=remote MAC                  tun_id=VNI, tun_dst=VTEP, to the tunnel
//	50 flood          reg0, reg1=0                             local ports, and each VTEP once
//	                  reg0, reg1=1                             local ports
//
// reg0 holds the VNI, so that equal subnets never meet; reg1 is 1 for what came
// from a tunnel, so that it never leaves through one. Each flow carries the
// cookie 0xca05e3a1 in its upper half and its network's VNI in the lower: zero
// for the flows that serve all. Flows with other cookies are another's and are
// left alone, and so are ports without our external_ids.
// "ovs-ofctl --names --no-stats dump-flows causeway" reads like the table.
//
// The anti-spoof table means that a container is a host and nothing else: it
// cannot route for others, have further addresses, or ask for one by DHCP. Its
// IPv6 link-local address is the one derived from its MAC (RFC 4291, appendix A).
//
// VXLAN has UDP port 8472 here, not 4789: on the kernel's datapath the port's
// socket cannot be shared with the devices of mode=vxlan, and on the userspace
// datapath the switch would take their packets for its own. Networks of both
// modes live on one host this way, whatever datapath each host has.
//
// The userspace datapath (datapath_type=netdev) asks two things of a host. It
// sends tunnels only where the route to the other VTEP leaves through an Open
// vSwitch bridge, so the NIC is in one and the bridge has the host's address.
// And it takes a container's frames without their checksums being filled in, so
// that is turned off on the container's end of the pair.
package ovs
