//go:build ignore

// The programs that lead established connections past the host's forwarding: causeway_fast
// where packets come in, on the host's ends of containers' pairs and on the NIC, and
// causeway_seen where they go out. Both let go on what they do not know. "make generate"
// builds them; kernel.go loads them.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "../tc/headers.h"

#define TCP_LENGTH 20
#define SYN 0x02
#define ACK 0x10

struct prefix {
	__u32 length;
	struct address address;
};

// way is where packets to a prefix lead: way in kernel.go.
struct way {
	__u32 link, network, mtu;
	__u32 family; // the next hop's; zero: to a container of this host
	__u32 via[4];
	__u8 mac[ETH_ALEN], gateway[ETH_ALEN]; // the container's, and that of its gateway
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct prefix);
	__type(value, struct way);
} ways SEC(".maps");

struct flow {
	struct address from, to;
	__be16 from_port, to_port;
};

enum { ASKED = 1, OPEN };

// flows are the connections whose SYN, and the answer to it, the host has let pass.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1 << 16);
	__type(key, struct flow);
	__type(value, __u32);
} flows SEC(".maps");

// counts are what was led past, from and to containers, by their pairs' ends.
struct count {
	__u64 in_packets, in_bytes, out_packets, out_bytes, local_packets, local_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

struct tcp {
	__be16 from, to;
	__be32 sequence, acknowledged;
	__u8 offset, flags;
	__be16 window, checksum, urgent;
};

// packet is what is asked of one.
struct packet {
	struct flow flow;
	__u32 headers; // bytes of IP's and TCP's
	__u8 flags;
};

// map4 gives an address of IPv4 as IPv6 maps it (RFC 4291 §2.5.5.2).
static __always_inline void map4(struct address *to, __u32 addr)
{
	to->word[0] = to->word[1] = 0;
	to->word[2] = bpf_htonl(0xffff);
	to->word[3] = addr;
}

// parse reads a TCP packet without options of IP. What else there is, is not ours: a
// fragment, one whose TTL ends here, an extension header.
static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	const __u32 least = ETH_HLEN + sizeof(struct ipv4) + TCP_LENGTH, most = ETH_HLEN + sizeof(struct ipv6) + TCP_LENGTH;
	struct tcp *tcp;
	if (skb->vlan_present)
		return 0;
	if ((void *)(long)skb->data + least > (void *)(long)skb->data_end)
		bpf_skb_pull_data(skb, skb->len < most ? skb->len : most);
	void *ip = (void *)(long)skb->data + ETH_HLEN, *end = (void *)(long)skb->data_end;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct ipv4 *four = ip;
		tcp = ip + sizeof(*four);
		if ((void *)(tcp + 1) > end || four->version_length != 0x45 || four->fragment & bpf_htons(0x3fff) ||
		    four->protocol != IPPROTO_TCP || four->ttl < 2)
			return 0;
		map4(&p->flow.from, four->from);
		map4(&p->flow.to, four->to);
		p->headers = sizeof(*four);
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6 *six = ip;
		tcp = ip + sizeof(*six);
		if ((void *)(tcp + 1) > end || six->next != IPPROTO_TCP || six->hops < 2)
			return 0;
		p->flow.from = six->from;
		p->flow.to = six->to;
		p->headers = sizeof(*six);
	} else {
		return 0;
	}
	p->flow.from_port = tcp->from;
	p->flow.to_port = tcp->to;
	p->flags = tcp->flags;
	p->headers += (tcp->offset >> 4) * 4;
	return 1;
}

static __always_inline struct way *way_to(const struct address *addr)
{
	struct prefix key = {.length = 128, .address = *addr};
	return bpf_map_lookup_elem(&ways, &key);
}

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	return half(a) == half(b) && half(a + 2) == half(b + 2) && half(a + 4) == half(b + 4);
}

// came wants a packet to have come by the way that leads back: from its own container
// and for the gateway, or from the other host and for this one.
static __always_inline int came(struct __sk_buff *skb, const struct way *from, const struct way *to)
{
	__u8 *eth = (void *)(long)skb->data;
	if (from->link != skb->ifindex || from->network != to->network)
		return 0;
	if (from->family)
		return skb->pkt_type == PACKET_HOST && !to->family;
	return (void *)eth + ETH_HLEN <= (void *)(long)skb->data_end && same_mac(eth, from->gateway) && same_mac(eth + ETH_ALEN, from->mac);
}

// fits says whether a packet, or each of those that it will be cut into, is not larger
// than its way takes. What is larger is the stack's to answer.
static __always_inline int fits(struct __sk_buff *skb, const struct packet *p, const struct way *to)
{
	return (skb->gso_size ? skb->gso_size + p->headers : skb->len - ETH_HLEN) <= to->mtu;
}

// age takes one from the TTL, as a router does.
static __always_inline int age(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		const __u32 at = ETH_HLEN + __builtin_offsetof(struct ipv6, hops);
		__u8 hops;
		if (bpf_skb_load_bytes(skb, at, &hops, sizeof(hops)))
			return 0;
		hops--;
		return !bpf_skb_store_bytes(skb, at, &hops, sizeof(hops), BPF_F_RECOMPUTE_CSUM);
	}
	// The header's sum stays as it is, and with it the packet's.
	const __u32 at = ETH_HLEN + __builtin_offsetof(struct ipv4, ttl);
	__be16 before, after;
	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return 0;
	after = before - bpf_htons(0x0100);
	return !bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct ipv4, checksum), before, after, sizeof(after)) &&
	       !bpf_skb_store_bytes(skb, at, &after, sizeof(after), 0);
}

static __always_inline void count(struct __sk_buff *skb, const struct way *from, const struct way *to)
{
	__u32 link = to->family ? from->link : to->link;
	struct count *c = bpf_map_lookup_elem(&counts, &link);
	if (!c)
		return;
	if (from->family) {
		c->in_packets++;
		c->in_bytes += skb->len - ETH_HLEN;
	} else if (to->family) {
		c->out_packets++;
		c->out_bytes += skb->len - ETH_HLEN;
	} else {
		c->local_packets++;
		c->local_bytes += skb->len - ETH_HLEN;
	}
}

// deliver hands a packet to a container of this host, as its gateway would.
static __always_inline int deliver(struct __sk_buff *skb, const struct way *to)
{
	__u8 macs[2 * ETH_ALEN];
	__builtin_memcpy(macs, to->mac, ETH_ALEN);
	__builtin_memcpy(macs + ETH_ALEN, to->gateway, ETH_ALEN);
	if (bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0))
		return TC_ACT_SHOT;
	return bpf_redirect(to->link, 0);
}

SEC("tc")
int causeway_fast(struct __sk_buff *skb)
{
	struct packet p = {};
	struct bpf_redir_neigh next = {};
	if (!parse(skb, &p) || p.flags & SYN)
		return TC_ACT_UNSPEC;
	__u32 *state = bpf_map_lookup_elem(&flows, &p.flow);
	if (!state || *state != OPEN)
		return TC_ACT_UNSPEC;
	struct way *from = way_to(&p.flow.from), *to = way_to(&p.flow.to);
	if (!from || !to || !came(skb, from, to) || !fits(skb, &p, to))
		return TC_ACT_UNSPEC;
	if (!age(skb))
		return TC_ACT_SHOT;
	count(skb, from, to);
	if (!to->family)
		return deliver(skb, to);
	next.nh_family = to->family;
	__builtin_memcpy(next.ipv6_nh, to->via, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(to->link, &next, sizeof(next), 0);
}

// causeway_seen notes a connection when both of its first packets have come through the
// host's own filters, with these addresses, and leave by the way that is known.
SEC("tc")
int causeway_seen(struct __sk_buff *skb)
{
	const __u32 asked = ASKED, open = OPEN;
	struct packet p = {};
	struct flow back = {};
	if (!parse(skb, &p) || !(p.flags & SYN))
		return TC_ACT_UNSPEC;
	struct way *from = way_to(&p.flow.from), *to = way_to(&p.flow.to);
	if (!from || !to || from->network != to->network || to->link != skb->ifindex)
		return TC_ACT_UNSPEC;
	if (!(p.flags & ACK)) {
		bpf_map_update_elem(&flows, &p.flow, &asked, BPF_ANY);
		return TC_ACT_UNSPEC;
	}
	back.from = p.flow.to;
	back.to = p.flow.from;
	back.from_port = p.flow.to_port;
	back.to_port = p.flow.from_port;
	if (bpf_map_lookup_elem(&flows, &back)) {
		bpf_map_update_elem(&flows, &back, &open, BPF_ANY);
		bpf_map_update_elem(&flows, &p.flow, &open, BPF_ANY);
	}
	return TC_ACT_UNSPEC;
}

// No helper that is called here asks for another licence.
char licence[] SEC("license") = "Apache-2.0";
