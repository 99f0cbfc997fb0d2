//go:build ignore

// The programs that count, on both sides of the host's end of a pair, what the container
// sends to each address and gets from it. The class of the filter is whose pair it is.
// They let every frame go on. "make generate" builds them; kernel.go loads them.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MOST 16384 // what has not talked for long makes room

struct key {
	__u32 class;
	__u32 peer[4]; // IPv4 as ::ffff:a.b.c.d
};

struct counters {
	__u64 sent_bytes, sent_packets, received_bytes, received_packets;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MOST);
	__type(key, struct key);
	__type(value, struct counters);
} talk SEC(".maps");

// until is when counting ends, by CLOCK_MONOTONIC in ns: nobody reads what is counted later.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} until SEC(".maps");

// read_peer reads an address of the frame's IP header, the one that it is to or from.
static __always_inline int read_peer(struct __sk_buff *skb, struct key *key, int to)
{
	const __u32 ipv4 = ETH_HLEN + 12, ipv6 = ETH_HLEN + 8;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		key->peer[2] = bpf_htonl(0xffff);
		return bpf_skb_load_bytes(skb, ipv4 + 4 * to, &key->peer[3], 4);
	}
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return bpf_skb_load_bytes(skb, ipv6 + 16 * to, key->peer, 16);
	return -1;
}

static __always_inline int count(struct __sk_buff *skb, int sent)
{
	struct key key = {};
	struct counters none = {};
	__u32 first = 0;
	__u8 group; // of the MAC that the frame is for
	__u64 *end = bpf_map_lookup_elem(&until, &first);
	if (!end || bpf_ktime_get_ns() > *end)
		return TC_ACT_UNSPEC;
	key.class = skb->tc_classid;
	if (bpf_skb_load_bytes(skb, 0, &group, 1) || group & 1 || read_peer(skb, &key, sent))
		return TC_ACT_UNSPEC;
	struct counters *counters = bpf_map_lookup_elem(&talk, &key);
	if (!counters) {
		bpf_map_update_elem(&talk, &key, &none, BPF_NOEXIST);
		counters = bpf_map_lookup_elem(&talk, &key);
		if (!counters)
			return TC_ACT_UNSPEC;
	}
	__u32 packets = skb->gso_segs ? skb->gso_segs : 1;
	__sync_fetch_and_add(sent ? &counters->sent_bytes : &counters->received_bytes, skb->len);
	__sync_fetch_and_add(sent ? &counters->sent_packets : &counters->received_packets, packets);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int causeway_sends(struct __sk_buff *skb)
{
	return count(skb, 1);
}

SEC("tc")
int causeway_gets(struct __sk_buff *skb)
{
	return count(skb, 0);
}

// No helper that is called here asks for another licence.
char licence[] SEC("license") = "Apache-2.0";
