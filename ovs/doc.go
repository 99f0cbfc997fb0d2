// Package ovs is the data plane of mode=ovs: one Open vSwitch bridge for each
// host, one flow-based tunnel port for each tunnel type, and a pipeline of
// OpenFlow tables that is written from the segments.
//
// A frame's path: the container's veth ends on the bridge as a port. Table 0 tells
// by the port which network the frame is on, or by tunnel key and sender where it
// came through a tunnel. ARP and neighbour discovery are answered by the switch; a
// unicast frame goes to a local port, or into the tunnel of the host that has its
// MAC; broadcast and multicast go to the network's local ports and once to each host
// that has endpoints there. What no flow matches is dropped: every MAC and address
// of a network is in the records, nothing is learned.
//
//	table             match                                    action
//	 0 classify       in_port=container                        reg0=VNI, to 10
//	                  in_port=gateway, dl_src=its MAC          reg0=VNI, reg1=1, to 20
//	                  in_port=tunnel, tun_id=VNI, tun_src=VTEP reg0=VNI, reg1=1, to 30
//	                  in_port=an encrypted network's device    reg0=VNI, reg1=1, to 30
//	10 MAC            in_port, dl_src=own                      to 11
//	11 kind           what only routers, DHCP servers and      drop
//	                  bridges say; another's MAC in ARP or ND
//	                  all else                                 to 12
//	12 source         own address in ARP, IPv4 and IPv6        to 13
//	13 chatter        broadcast, ARP, ND                       to 14
//	                  all else                                 to 15
//	14 broadcasts     in_port                                  meter, to 15
//	15 rate           in_port, on a network with -o rate       meter, to 20
//	20 neighbours     ARP or ND about the container's own      drop (an announcement)
//	                  ARP request for an endpoint of reg0      answer to in_port
//	                  ND solicitation for an endpoint of reg0  make it an answer, to 25
//	                  other ARP, ND and router discovery       drop, or with -o allow or spoofing to 30
//	                  all else                                 to 30
//	25 ND answer      -                                        set the link address, to in_port
//	30 local          reg0, dl_dst=local MAC                   output to the container
//	                  reg0, reg1=0, dl_dst=the gateway's MAC   output to the gateway
//	                  group address                            to 50
//	                  reg1=0                                   to 40
//	40 remote         reg0, dl_dst=remote MAC                  tun_id=VNI, tun_dst=VTEP, to the tunnel
//	50 flood          reg0, reg1=0                             local ports, tun_id=VNI, the network's groups
//	                  reg0, reg1=1                             local ports
//	groups            type all, a bucket for each VTEP         tun_dst=VTEP, to the tunnel
//
// An encrypted network has a device of the kernel, another port of the bridge, in place of
// the tunnel and the groups (package vxlanport).
//
// reg0 holds the VNI, so that equal subnets never meet; reg1 is 1 for what came
// from a tunnel or the gateway, so that it never leaves through a tunnel. Each flow carries the
// cookie 0xca05e3a1 in its upper half and its network's VNI in the lower: zero
// for the flows that serve all. Flows with other cookies are another's and are
// left alone, and so are ports without our external_ids.
// A group has no cookie: ours have IDs of 0xca000000 and above, the network's VNI in
// the lower 24 bits, and buckets that send into tunnels. One group has 384 VTEPs on
// the average, since a message of OpenFlow has room for 900.
// "ovs-ofctl --names --no-stats dump-flows causeway" and "ovs-ofctl -O OpenFlow15
// dump-groups causeway" read like the table.
//
// A change's path: Apply compares the segment with the one that it wrote last, and
// writes the flows of the endpoints and VTEPs that differ, in one bundle. It reads
// the switch back at the start, after an error, when Invalidate was called, and where
// Watch saw that others changed something. Watch is connected to two sockets: the
// database's (ports, the bridge and its settings) and the bridge's (flows and
// groups). For each change that it hears of, it waits until the plane is idle, takes
// in what else there is, and compares it with what the plane wrote; only the rest is
// drift. A switch that does not answer opens a circuit breaker, which fails commands
// at once for ten seconds or until the switch is restarted.
//
// Tables 10 to 12 hold a container to the rule of internal/portfilter, by flows: a
// container is a host and nothing else. It cannot route for others, have further
// addresses, or ask for one by DHCP. Its IPv6 link-local address is the one derived
// from its MAC (RFC 4291, appendix A). Each reason to drop has a flow at each port, whose
// counter is what [Plane.Drops] tells. portfilter's own program has no effect here: the
// userspace datapath reads a port through a packet socket, which gets a frame before
// tc's filters do.
//
// The limits are meters of the switch, up to three for each port (meters.go). The last
// holds what is sent to the container, in table 30: Open vSwitch deletes a qdisc that is
// not its own.
//
// VXLAN has UDP port 8472 here, not 4789: on the kernel's datapath the port's
// socket cannot be shared with the devices of mode=vxlan, and on the userspace
// datapath the switch would take their packets for its own. Networks of both
// modes live on one host this way, whatever datapath each host has.
//
// The userspace datapath (datapath_type=netdev) asks four things of a host:
//
//   - It sends tunnels only where the route to the other VTEP leaves through an Open
//     vSwitch bridge: the NIC is in one, and the bridge has the host's address. Check
//     says so.
//   - It drops the first frame to a next hop whose MAC it does not know. The next hops
//     of all VTEPs are looked up in the kernel's routes and neighbours when a peer is
//     applied, written to the switch (tnl/neigh/set), compared every half second, and
//     set again.
//   - It reads its ports through packet sockets and leaves the frames to the host's own
//     stack too, which would answer ARP, take routes from advertisements, and talk to
//     containers. An nftables chain for each port (table netdev causeway-ovs) drops them
//     after the packet sockets and before the stack. It stays when causeway ends.
//   - It takes a container's frames without their checksums being filled in, so that is
//     turned off on the container's end of the pair.
package ovs
