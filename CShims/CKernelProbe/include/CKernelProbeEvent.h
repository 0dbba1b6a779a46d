// What the kernel probe tells of one packet: the layout that racetrack.bpf.c writes into the ring buffer. Host byte order unless said otherwise.
#pragma once

enum kernel_probe_kind {
  // Dropped at insertion (NF_DROP of __nf_conntrack_confirm after a clash).
  KERNEL_PROBE_DROPPED = 1,
  // Its clash was resolved: the packet goes on with the winner's entry.
  KERNEL_PROBE_MERGED = 2,
  // Its clash was resolved: its own entry stands in the reply direction only (IPS_NAT_CLASH).
  KERNEL_PROBE_REPLY_ONLY = 3,
};

enum {
  // Bytes kept of the packet: IPv6 with an extension header, UDP, DNS header, the longest name with type and class.
  KERNEL_PROBE_PACKET = 384,
};

enum kernel_probe_flags {
  // On this CPU the counters that name the cause moved by one each, and by this packet.
  KERNEL_PROBE_EXACT = 1,
  // `winner_original` and `winner_reply` are those of the entry that it clashed with.
  KERNEL_PROBE_WINNER = 2,
  // `zone` is known.
  KERNEL_PROBE_ZONE = 4,
};

// struct nf_conntrack_tuple (include/net/netfilter/nf_conntrack_tuple.h); addresses and ports in network order.
struct kernel_probe_tuple {
  unsigned char source[16];
  unsigned short source_port;
  // AF_INET or AF_INET6.
  unsigned short family;
  unsigned char destination[16];
  unsigned short destination_port;
  unsigned char protocol;
  // IP_CT_DIR_*.
  unsigned char direction;
};

struct kernel_probe_event {
  // bpf_ktime_get_ns: CLOCK_MONOTONIC.
  unsigned long long time;
  unsigned int cpu;
  // skb_iif: the device that it came in by, 0 for what this node sent.
  unsigned int interface;
  unsigned short zone;
  // Bytes of `packet`.
  unsigned short length;
  unsigned char kind;
  unsigned char flags;
  // From the network header to the packet's end, at most 65,535; more than `length` where the packet was longer than what is kept of it, or lies in pages.
  unsigned short whole_length;
  // The loser's own tuples, read before the kernel could give the packet another entry. `reply` is the one that it wanted.
  struct kernel_probe_tuple original;
  struct kernel_probe_tuple reply;
  struct kernel_probe_tuple winner_original;
  struct kernel_probe_tuple winner_reply;
  // From the network header on, after NAT: the linear part, so far as it was kept.
  unsigned char packet[KERNEL_PROBE_PACKET];
};
