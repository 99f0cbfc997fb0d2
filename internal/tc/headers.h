// The headers of packets as the BPF programs of this project read them.
#ifndef CAUSEWAY_HEADERS_H
#define CAUSEWAY_HEADERS_H

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

struct address {
	__u32 word[4];
};

struct ipv4 {
	__u8 version_length, tos;
	__be16 length, id, fragment;
	__u8 ttl, protocol;
	__be16 checksum;
	__u32 from, to;
};

struct ipv6 {
	__be32 version_flow;
	__be16 length;
	__u8 next, hops;
	struct address from, to;
};

// half is two bytes of a MAC.
static __always_inline __u32 half(const __u8 *bytes)
{
	return bytes[0] | bytes[1] << 8;
}

#endif
