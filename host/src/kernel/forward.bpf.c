// SPDX-License-Identifier: GPL-2.0 OR MIT
//
// Media that the relay need not look at any more: one look-up, new addresses, out. `make kernel-path` compiles it.
//
// A rule is a latched RTP stream: exact source address and port, our address and port, SSRC and payload type. Whatever
// differs in anything (a stranger, STUN, DTLS, RTCP, another codec, a packet that is late or here twice, one that is too
// large for where it would go) is left to the stack, which hands it to the relay in user space: so much of it a second, from
// where the party is and from anywhere else; the rest ends here, counted.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GO_ON -1 // TCX_NEXT: the next program, then the stack
#define DROP 2 // TC_ACT_SHOT
#define FRAGMENT 0x3fff // offset, and "more fragments"
#define DROPOUT 3000 // RFC 3550 A.1: further ahead, it is another stream
#define IMPLAUSIBLE_US 10000000 // as in proto/src/rtp/statistics.rs
#define HOPS 64
#define CONFIRM_NS 1000000000 // how often the kernel is to see that a neighbour is in use
#define SECOND_NS 1000000000
#define ASIDE 1000 // packets a second the relay is asked about
#define SMALL 576 // what every link takes whole

// IPv4 addresses stand as ::ffff:a.b.c.d. Addresses and ports as on the wire.
struct ends {
	__u32 from[4], to[4];
	__u16 from_port, to_port;
};

// Written by user space once, read by it; from `packets` on the kernel counts.
struct flow {
	struct ends out;
	__u32 way; // in `ways`
	__u32 ssrc, clock, payload_type;
	__u32 burst; // most packets missing in a row
	__u32 timestamp; // of the newest packet
	__u32 unused;
	__u64 packets, bytes;
	__u64 heard; // CLOCK_MONOTONIC, nanoseconds; 0: not yet
	__u64 highest; // sequence number with its wraps
	__u64 jitter; // sixteenths of a microsecond, RFC 3550 A.8
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ends);
	__type(value, struct flow);
} flows SEC(".maps");

// How a packet leaves: what is known of an interface and the neighbour behind it. User space writes it, and keeps it true.
enum how {
	ROUTE, // the kernel looks for route and neighbour
	NEIGHBOUR, // the next hop is known, the kernel looks for its address
	ADDRESS, // that too
	PEER, // the same, and it leaves by arriving at the other end of a virtual cable
};

struct way {
	__u32 interface, how, family;
	__u32 next_hop[4]; // IPv4: the first
	__u8 to[6], from[6]; // Ethernet
	__u64 confirmed; // when the kernel saw last that the neighbour is in use
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct way);
} ways SEC(".maps");

// A port of ours that a stream is carried from.
struct port {
	__u32 ip[4];
	__u16 number, unused;
};

// What else comes there, in this second.
struct aside {
	__u64 since, passed;
};

struct gate {
	struct aside strangers, party;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port);
	__type(value, struct gate);
} gates SEC(".maps");

struct rtp {
	__u8 first, second;
	__be16 sequence;
	__be32 timestamp, ssrc;
};

static __always_inline void measure(struct flow *flow, __u32 timestamp, __u64 now)
{
	__u32 ticks = timestamp - flow->timestamp;

	if (flow->heard && flow->clock && ticks && ticks < 0x80000000u) {
		__s64 sent = (__u64)ticks * 1000000 / flow->clock;
		__s64 change = (__s64)((now - flow->heard) / 1000) - sent;

		if (change < 0)
			change = -change;
		if (change < IMPLAUSIBLE_US)
			flow->jitter = flow->jitter - (flow->jitter + 8) / 16 + change;
	}
	flow->timestamp = timestamp;
}

// Whether the relay need not see this packet: the time if so, then it is counted. 0: it must.
static __always_inline __u64 is_plain(struct flow *flow, const struct rtp *rtp, __u32 bytes)
{
	__u16 ahead = bpf_ntohs(rtp->sequence) - (__u16)flow->highest;
	__u64 now;

	if (rtp->first >> 6 != 2 || rtp->ssrc != flow->ssrc || ahead == 0 || ahead >= DROPOUT)
		return 0;
	flow->highest += ahead; // the relay counts what it sees itself, but is not ahead of us
	if ((rtp->second & 0x7f) != flow->payload_type)
		return 0;
	if (ahead - 1u > flow->burst)
		flow->burst = ahead - 1u;
	now = bpf_ktime_get_ns();
	measure(flow, bpf_ntohl(rtp->timestamp), now);
	flow->heard = now;
	__sync_fetch_and_add(&flow->packets, 1);
	__sync_fetch_and_add(&flow->bytes, bytes);
	return now;
}

static __always_inline __u32 ports(struct ends *ends)
{
	return ends->from_port | (__u32)ends->to_port << 16;
}

// UDP's checksum for new addresses and ports, also one that the device is still to finish.
static __always_inline void sum_anew(struct __sk_buff *skb, struct ends *in, struct ends *out, __u32 at)
{
	__u32 check = at + offsetof(struct udphdr, check);
	__s64 diff = bpf_csum_diff(in->from, 32, out->from, 32, 0);

	bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
	bpf_l4_csum_replace(skb, check, ports(in), ports(out), BPF_F_MARK_MANGLED_0 | 4);
}

// RFC 791's checksum of a header without options.
static __always_inline __u16 sum_of(const struct iphdr *ip)
{
	const __u32 *words = (const void *)ip;
	__u64 sum = (__u64)words[0] + words[1] + words[2] + words[3] + words[4];

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~((sum & 0xffff) + (sum >> 16));
}

static __always_inline int is_too_large(struct __sk_buff *skb, struct way *way)
{
	__u32 mtu = 0;

	return skb->len > SMALL && bpf_check_mtu(skb, way->interface, &mtu, 0, 0);
}

// Out. Now and then by the kernel's own hands even if all is known: it asks after a neighbour that has long been silent,
// and user space hears of what it learns.
static __always_inline int leave(struct way *way, struct ethhdr *eth, __u64 now)
{
	struct bpf_redir_neigh hop = {.nh_family = way->family};

	if (way->how >= ADDRESS) {
		if (now - way->confirmed < CONFIRM_NS) {
			__builtin_memcpy(eth->h_dest, way->to, ETH_ALEN);
			__builtin_memcpy(eth->h_source, way->from, ETH_ALEN);
			return way->how == PEER ? bpf_redirect_peer(way->interface, 0) : bpf_redirect(way->interface, 0);
		}
		way->confirmed = now;
	}
	if (way->how == ROUTE)
		return bpf_redirect_neigh(way->interface, 0, 0, 0);
	__builtin_memcpy(hop.ipv6_nh, way->next_hop, sizeof(hop.ipv6_nh));
	return bpf_redirect_neigh(way->interface, &hop, sizeof(hop), 0);
}

// The stream a packet is of and its way out, `length` being that of UDP: the time if it goes on here, then it is counted.
// 0: it does not.
static __always_inline __u64 find(struct __sk_buff *skb, struct ends *in, const struct udphdr *udp, __u32 length,
				  struct flow **flow, struct way **way)
{
	*flow = bpf_map_lookup_elem(&flows, in);
	if (!*flow)
		return 0;
	*way = bpf_map_lookup_elem(&ways, &(*flow)->way);
	if (!*way || bpf_ntohs(udp->len) != length || is_too_large(skb, *way))
		return 0;
	return is_plain(*flow, (const void *)(udp + 1), length - sizeof(*udp));
}

// What is not carried goes on to the relay, or is too much for it.
static __always_inline int step_aside(struct ends *in, struct flow *flow)
{
	struct port port = {.number = in->to_port};
	struct gate *gate;
	struct aside *aside;
	__u64 now;

	__builtin_memcpy(port.ip, in->to, sizeof(port.ip));
	gate = bpf_map_lookup_elem(&gates, &port);
	if (!gate)
		return GO_ON;
	aside = flow ? &gate->party : &gate->strangers;
	now = bpf_ktime_get_ns();
	if (now - aside->since >= SECOND_NS) {
		aside->since = now;
		aside->passed = 0;
	}
	if (aside->passed++ < ASIDE)
		return GO_ON;
	__sync_fetch_and_add(&gate->dropped, 1);
	return DROP;
}

// Where a packet begins, once its checksum is rewritten: whatever was known of its bytes is void then. 0: it is cut off.
static __always_inline void *beginning(struct __sk_buff *skb, __u32 length)
{
	void *data = (void *)(long)skb->data;

	return data + length > (void *)(long)skb->data_end ? 0 : data;
}

static __always_inline int forward_v4(struct __sk_buff *skb, void *data, void *end)
{
	const __u32 at = sizeof(struct ethhdr) + sizeof(struct iphdr);
	struct iphdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = data + at;
	struct flow *flow;
	struct way *way;
	struct ends in = {};
	struct iphdr head;
	__u64 now;

	if (data + at + sizeof(*udp) + sizeof(struct rtp) > end || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
	    ip->frag_off & bpf_htons(FRAGMENT))
		return GO_ON;
	in.from[2] = in.to[2] = bpf_htonl(0xffff);
	in.from[3] = ip->saddr;
	in.to[3] = ip->daddr;
	in.from_port = udp->source;
	in.to_port = udp->dest;
	now = find(skb, &in, udp, bpf_ntohs(ip->tot_len) - sizeof(*ip), &flow, &way);
	if (!now)
		return step_aside(&in, flow);
	head = *ip;
	head.saddr = flow->out.from[3];
	head.daddr = flow->out.to[3];
	head.ttl = HOPS;
	head.tos = 0;
	head.check = 0;
	head.check = sum_of(&head);
	if (udp->check) {
		sum_anew(skb, &in, &flow->out, at);
		data = beginning(skb, at + sizeof(*udp));
		if (!data)
			return DROP; // half rewritten
		ip = data + sizeof(struct ethhdr);
		udp = data + at;
	}
	*ip = head;
	udp->source = flow->out.from_port;
	udp->dest = flow->out.to_port;
	return leave(way, data, now);
}

static __always_inline int forward_v6(struct __sk_buff *skb, void *data, void *end)
{
	const __u32 at = sizeof(struct ethhdr) + sizeof(struct ipv6hdr);
	struct ipv6hdr *ip = data + sizeof(struct ethhdr);
	struct udphdr *udp = data + at;
	struct flow *flow;
	struct way *way;
	struct ends in;
	__u64 now;

	if (data + at + sizeof(*udp) + sizeof(struct rtp) > end || ip->nexthdr != IPPROTO_UDP)
		return GO_ON;
	__builtin_memcpy(in.from, &ip->saddr, 32);
	in.from_port = udp->source;
	in.to_port = udp->dest;
	now = find(skb, &in, udp, bpf_ntohs(ip->payload_len), &flow, &way);
	if (!now)
		return step_aside(&in, flow);
	sum_anew(skb, &in, &flow->out, at);
	data = beginning(skb, at + sizeof(*udp));
	if (!data)
		return DROP;
	ip = data + sizeof(struct ethhdr);
	udp = data + at;
	ip->hop_limit = HOPS;
	__builtin_memcpy(&ip->saddr, flow->out.from, 32);
	udp->source = flow->out.from_port;
	udp->dest = flow->out.to_port;
	return leave(way, data, now);
}

SEC("classifier")
int forward(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	// Several datagrams in one buffer (GRO); what is another machine's, or of a network within this one.
	if (skb->gso_size || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return GO_ON;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return forward_v4(skb, data, end);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return forward_v6(skb, data, end);
	return GO_ON;
}

char _license[] SEC("license") = "Dual MIT/GPL";
