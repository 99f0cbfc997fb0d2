//go:build ignore

// The program that judges what a container sends, on the ingress of the host's end of
// its pair. One program serves all ports: the class of the port's filter is the key of
// its entry in the map ports. A frame that may pass goes on to the filters after this
// one. "make generate" builds it; kernel.go loads it.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../tc/headers.h"

#define MAX_ADDRESSES 20
#define BROADCAST_BURST 1000000000ULL // ns
#define RATE_BURST 50000000ULL // ns
#define MAX_HEADERS 6 // extension headers of IPv6
#define MAX_OPTIONS 4 // of neighbour discovery

// reason orders the counters, as Go's reasons do.
enum reason {
	PASS = -1,
	MAC,
	ARP,
	IPV4,
	IPV6,
	NEIGHBOUR,
	ROUTER,
	DHCP,
	BRIDGE,
	VLAN,
	PROTOCOL,
	MALFORMED,
	BROADCAST,
	RATE,
	REASONS,
};

// port is what one container may send, and what was dropped: entry in kernel.go.
struct port {
	__u32 check; // zero: the container may send as whoever it likes
	__u32 floats; // MACs of virtual routers may pass (RFC 5798 §7.3)
	__u64 broadcast_cost; // of a frame, in ns; zero: no limit
	__u64 rate_cost; // of a KiB, in ns; zero: no limit
	__u64 broadcast_until, rate_until; // when the buckets will be empty
	__u64 drops[REASONS];
	__u32 addr4[MAX_ADDRESSES]; // what is not used repeats the first
	struct address addr6[MAX_ADDRESSES];
	__u8 mac[ETH_ALEN];
	__u8 count4, count6;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65535);
	__type(key, __u32);
	__type(value, struct port);
} ports SEC(".maps");

struct ethernet {
	__u8 to[ETH_ALEN], from[ETH_ALEN];
	__be16 type;
} __attribute__((packed));

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_length, protocol_length;
	__be16 operation;
	__u8 from_mac[ETH_ALEN];
	__u32 from;
	__u8 to_mac[ETH_ALEN];
	__u32 to;
} __attribute__((packed));

static __always_inline int is_own_mac(const struct port *port, const __u8 *mac)
{
	return !((half(mac) ^ half(port->mac)) | (half(mac + 2) ^ half(port->mac + 2)) | (half(mac + 4) ^ half(port->mac + 4)));
}

// is_virtual_mac says whether mac is a virtual router's, of IPv4 or IPv6.
static __always_inline int is_virtual_mac(const __u8 *mac)
{
	return !(mac[0] | mac[1] | (mac[2] ^ 0x5e) | mac[3]) && (mac[4] == 1 || mac[4] == 2);
}

static __always_inline int may_have_mac(const struct port *port, const __u8 *mac)
{
	return is_own_mac(port, mac) || (port->floats && is_virtual_mac(mac));
}

// differ is 0 where bits is, else 1, without a branch: each would double what the
// verifier has to look at.
static __always_inline __u32 differ(__u32 bits)
{
	return (bits | -bits) >> 31;
}

static __always_inline int may_have4(const struct port *port, __u32 addr)
{
	__u32 other = 1;
	if (!port->count4)
		return 0;
	if (addr == port->addr4[0])
		return 1;
	for (int i = 1; i < MAX_ADDRESSES; i++)
		other &= differ(addr ^ port->addr4[i]);
	return !other;
}

// is_virtual_link says whether a is the link-local address of a virtual router's MAC.
static __always_inline int is_virtual_link(const struct address *a)
{
	return a->word[0] == bpf_htonl(0xfe800000) && a->word[1] == 0 && a->word[2] == bpf_htonl(0x02005eff) &&
	       ((a->word[3] & bpf_htonl(0xffffff00)) == bpf_htonl(0xfe000100) ||
		(a->word[3] & bpf_htonl(0xffffff00)) == bpf_htonl(0xfe000200));
}

static __always_inline __u32 difference(const struct address *a, const struct address *b)
{
	return (a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) | (a->word[3] ^ b->word[3]);
}

static __always_inline int may_have6(const struct port *port, const struct address *a)
{
	__u32 other = 1;
	if (!port->count6)
		return 0;
	if (!difference(a, &port->addr6[0]))
		return 1;
	for (int i = 1; i < MAX_ADDRESSES; i++)
		other &= differ(difference(a, &port->addr6[i]));
	return !other || (port->floats && is_virtual_link(a));
}

static __always_inline int is_unspecified(const struct address *a)
{
	return !(a->word[0] | a->word[1] | a->word[2] | a->word[3]);
}

static __always_inline enum reason check_arp(const struct port *port, const struct arp *arp)
{
	if (arp->hardware != bpf_htons(1) || arp->protocol != bpf_htons(ETH_P_IP) || arp->hardware_length != ETH_ALEN ||
	    arp->protocol_length != 4)
		return MALFORMED;
	if (!may_have_mac(port, arp->from_mac))
		return ARP;
	if (arp->from == 0) // a probe has no sender address yet (RFC 5227 §2.1.1)
		return arp->operation == bpf_htons(1) ? PASS : ARP;
	return may_have4(port, arp->from) ? PASS : ARP;
}

// check_udp refuses what a DHCP server sends from port from to port to.
static __always_inline enum reason check_udp(struct __sk_buff *skb, __u32 at, __u16 from, __u16 to)
{
	__be16 ports[2];
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return MALFORMED;
	return ports[0] == bpf_htons(from) && ports[1] == bpf_htons(to) ? DHCP : PASS;
}

static __always_inline enum reason check_ipv4(const struct port *port, struct __sk_buff *skb, const struct ipv4 *ip)
{
	if (ip->version_length >> 4 != 4 || (ip->version_length & 15) < 5)
		return MALFORMED;
	if (!may_have4(port, ip->from))
		return IPV4;
	if (ip->protocol != IPPROTO_UDP || ip->fragment & bpf_htons(0x1fff))
		return PASS;
	return check_udp(skb, ETH_HLEN + (ip->version_length & 15) * 4, 67, 68);
}

// check_options wants the link-layer addresses in the options of a neighbour
// discovery message (RFC 4861 §4.6.1) to be the container's.
static __always_inline enum reason check_options(const struct port *port, struct __sk_buff *skb, __u32 at, __u32 end)
{
	for (int i = 0; i < MAX_OPTIONS; i++) {
		struct {
			__u8 kind, units, mac[ETH_ALEN];
		} option;
		if (at >= end)
			return PASS;
		if (bpf_skb_load_bytes(skb, at, &option, sizeof(option)) || option.units == 0)
			return MALFORMED;
		if ((option.kind == 1 || option.kind == 2) && !may_have_mac(port, option.mac))
			return NEIGHBOUR;
		at += (__u32)option.units * 8;
	}
	return at >= end ? PASS : MALFORMED;
}

// check_icmpv6 judges a message at an offset. Without a source address nobody says more
// than that he looks for a duplicate, a router or groups.
static __always_inline enum reason check_icmpv6(const struct port *port, struct __sk_buff *skb, __u32 at, __u32 end, int unspecified)
{
	enum { solicit_router = 133, advertise_router, solicit, advertise, redirect };
	enum { report_group = 131, leave_group = 132, report_groups = 143 };
	struct address target;
	__u8 kind;
	if (bpf_skb_load_bytes(skb, at, &kind, sizeof(kind)))
		return MALFORMED;
	switch (kind) {
	case advertise_router:
	case redirect:
		return ROUTER;
	case solicit_router:
		return check_options(port, skb, at + 8, end);
	case solicit:
	case advertise:
		if (bpf_skb_load_bytes(skb, at + 8, &target, sizeof(target)))
			return MALFORMED;
		if ((kind == advertise || unspecified) && !may_have6(port, &target))
			return NEIGHBOUR;
		if (kind == advertise && unspecified)
			return IPV6;
		return check_options(port, skb, at + 24, end);
	case report_group:
	case leave_group:
	case report_groups:
		return PASS;
	}
	return unspecified ? IPV6 : PASS;
}

static __always_inline int is_extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT ||
	       next == IPPROTO_AH || next == IPPROTO_MH;
}

// check_ipv6 looks behind extension headers, which have hidden advertisements from
// filters (RFC 7113).
static __always_inline enum reason check_ipv6(const struct port *port, struct __sk_buff *skb, const struct ipv6 *ip)
{
	int unspecified = is_unspecified(&ip->from);
	__u32 at = ETH_HLEN + sizeof(*ip), end = at + bpf_ntohs(ip->length);
	__u8 next = ip->next;
	if (!unspecified && !may_have6(port, &ip->from))
		return IPV6;
	for (int i = 0; i < MAX_HEADERS && is_extension(next); i++) {
		__u8 header[4];
		if (bpf_skb_load_bytes(skb, at, header, sizeof(header)))
			return MALFORMED;
		if (next == IPPROTO_FRAGMENT && (header[2] || header[3] & 0xf8)) // not the first one
			return unspecified ? IPV6 : PASS;
		at += next == IPPROTO_FRAGMENT ? 8 : next == IPPROTO_AH ? (header[1] + 2) * 4 : (header[1] + 1) * 8;
		next = header[0];
	}
	if (is_extension(next))
		return MALFORMED;
	if (next == IPPROTO_ICMPV6)
		return check_icmpv6(port, skb, at, end, unspecified);
	if (unspecified)
		return IPV6;
	return next == IPPROTO_UDP ? check_udp(skb, at, 547, 546) : PASS;
}

// check wants a frame to be one that its container may send.
static __always_inline enum reason check(const struct port *port, struct __sk_buff *skb, struct ethernet *eth, void *end)
{
	void *payload = eth + 1;
	if (!may_have_mac(port, eth->from))
		return MAC;
	if (!((eth->to[0] ^ 0x01) | (eth->to[1] ^ 0x80) | (eth->to[2] ^ 0xc2) | eth->to[3] | eth->to[4]) &&
	    eth->to[5] < 16) // IEEE 802.1D §7.12.6
		return BRIDGE;
	if (skb->vlan_present)
		return VLAN;
	switch (eth->type) {
	case bpf_htons(ETH_P_IP):
		return payload + sizeof(struct ipv4) > end ? MALFORMED : check_ipv4(port, skb, payload);
	case bpf_htons(ETH_P_IPV6):
		return payload + sizeof(struct ipv6) > end ? MALFORMED : check_ipv6(port, skb, payload);
	case bpf_htons(ETH_P_ARP):
		return payload + sizeof(struct arp) > end ? MALFORMED : check_arp(port, payload);
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		return VLAN;
	}
	return bpf_ntohs(eth->type) < ETH_P_802_3_MIN ? BRIDGE : PROTOCOL;
}

// is_chatter says whether a frame is a broadcast, ARP or neighbour discovery. Other
// multicast is not: it may be a film.
static __always_inline int is_chatter(struct __sk_buff *skb, const struct ethernet *eth)
{
	const __u32 next = ETH_HLEN + 6, kind = ETH_HLEN + sizeof(struct ipv6);
	__u8 is;
	if (half(eth->to) == 0xffff || eth->type == bpf_htons(ETH_P_ARP))
		return 1;
	if (eth->type != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, next, &is, 1) || is != IPPROTO_ICMPV6)
		return 0;
	return !bpf_skb_load_bytes(skb, kind, &is, 1) && is >= 133 && is <= 137; // RFC 4861 §4
}

// overflows puts cost into a bucket, and says whether it was full. Two frames at
// once may pay for one.
static __always_inline int overflows(__u64 *until, __u64 cost, __u64 burst)
{
	__u64 now = bpf_ktime_get_ns(), empty = *until;
	if (empty < now)
		*until = empty = now;
	if (empty - now > burst)
		return 1;
	__sync_fetch_and_add(until, cost);
	return 0;
}

static __always_inline enum reason judge(struct port *port, struct __sk_buff *skb)
{
	const __u32 headers = ETH_HLEN + sizeof(struct ipv6);
	if ((void *)(long)skb->data + headers > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, skb->len < headers ? skb->len : headers);
	struct ethernet *eth = (void *)(long)skb->data;
	void *end = (void *)(long)skb->data_end;
	if ((void *)(eth + 1) > end)
		return MALFORMED;
	enum reason reason = port->check ? check(port, skb, eth, end) : PASS;
	if (reason != PASS)
		return reason;
	if (port->broadcast_cost && is_chatter(skb, eth) && overflows(&port->broadcast_until, port->broadcast_cost, BROADCAST_BURST))
		return BROADCAST;
	if (port->rate_cost && overflows(&port->rate_until, skb->len * port->rate_cost >> 10, RATE_BURST))
		return RATE;
	return PASS;
}

SEC("tc")
int causeway_port(struct __sk_buff *skb)
{
	__u32 key = skb->tc_classid;
	struct port *port = bpf_map_lookup_elem(&ports, &key);
	if (!port)
		return TC_ACT_SHOT;
	enum reason reason = judge(port, skb);
	if (reason < 0 || reason >= REASONS)
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&port->drops[reason], 1);
	return TC_ACT_SHOT;
}

// No helper that is called here asks for another licence.
char licence[] SEC("license") = "Apache-2.0";
