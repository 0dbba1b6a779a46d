// SPDX-License-Identifier: GPL-2.0
// The event filter of filter.c as an eBPF program that writes what it lets through into a ring, where user space reads it without a system call. The kernel
// then frees the message instead of queueing it: written, read and freed by the same CPU, it never leaves its cache.
//
// What the program cannot tell or place it leaves to the socket, unfiltered: nothing is lost here. User space filters that (conntrack_is_wanted).
#include "../types.bpf.h"

#include <bpf/bpf_helpers.h>

#include "ring.h"

// The answer of a socket filter: bytes to keep of the message.
enum { IGNORE = 0, LEAVE_TO_SOCKET = -1 };
enum verdict { NO, YES, UNKNOWN };

// linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, linux/netlink.h. Headers come in host order, payloads in network order.
enum { MESSAGE_NEW = 0x100, MESSAGE_DELETE = 0x102, NLM_F_CREATED = 0x600, NLA_TYPE_MASK = 0x3fff };
enum { CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY = 2, CTA_STATUS = 3 };
enum { CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO = 2, CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT = 2, CTA_PROTO_DST_PORT = 3 };
enum { IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPS_SEEN_REPLY = 1 << 1, IPS_NAT_CLASH = 1 << 12 };
// More attributes than an event has before its status.
enum { ATTRIBUTES = 16 };

struct __sk_buff {
  __u32 len;
};
struct attribute {
  __u16 length, type;
};
struct head {
  __u32 length;
  __u16 type, flags;
  __u32 sequence, port;
  __u32 nfgenmsg;
  struct attribute first;
};
// CTA_TUPLE_PROTO as the kernel writes it for UDP and TCP (nf_ct_port_tuple_to_nlattr in net/netfilter/nf_conntrack_core.c).
struct protocol {
  struct attribute holder, number_head;
  __u8 number, padding[3];
  struct attribute source_head;
  __u16 source, source_padding;
  struct attribute destination_head;
  __u16 destination, destination_padding;
};
struct slot {
  __u8 bytes[CONNTRACK_RING_SLOT];
};

// Bit n: port n is a DNS port. Mapped by user space.
__u8 ports[8192];
// Messages left to the socket.
__u64 left;

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, CONNTRACK_RING_BYTES);
} events SEC(".maps");

static __always_inline __u32 aligned(__u32 length) { return (length + 3) & ~3u; }

static __always_inline int is_of(struct attribute attribute, __u16 type) { return (attribute.type & NLA_TYPE_MASK) == type; }

static __always_inline int is_dns(__u16 port)
{
  port = __builtin_bswap16(port);
  return ports[port >> 3] >> (port & 7) & 1;
}

// Whether the tuple at this offset has one of the ports.
static __always_inline enum verdict test_tuple(struct __sk_buff *skb, __u32 at)
{
  struct attribute address;
  struct protocol protocol;

  at += sizeof(struct attribute);
  if (bpf_skb_load_bytes(skb, at, &address, sizeof(address)) < 0 || !is_of(address, CTA_TUPLE_IP))
    return UNKNOWN;
  if (bpf_skb_load_bytes(skb, at + aligned(address.length), &protocol, sizeof(protocol)) < 0 || !is_of(protocol.holder, CTA_TUPLE_PROTO))
    return UNKNOWN;
  if (!is_of(protocol.number_head, CTA_PROTO_NUM))
    return UNKNOWN;
  if (protocol.number != IPPROTO_UDP && protocol.number != IPPROTO_TCP)
    return NO;
  if (!is_of(protocol.source_head, CTA_PROTO_SRC_PORT) || !is_of(protocol.destination_head, CTA_PROTO_DST_PORT))
    return UNKNOWN;
  return is_dns(protocol.source) || is_dns(protocol.destination) ? YES : NO;
}

// CTA_STATUS in host order; -1 if there is none.
static __always_inline __s64 find_status(struct __sk_buff *skb, struct attribute attribute)
{
  __u32 at = sizeof(struct head) - sizeof(struct attribute), status;

  for (int count = 0; count < ATTRIBUTES; count++) {
    if (is_of(attribute, CTA_STATUS))
      return bpf_skb_load_bytes(skb, at + sizeof(attribute), &status, sizeof(status)) < 0 ? -1 : (__s64)__builtin_bswap32(status);
    if (attribute.length < sizeof(attribute))
      return -1;
    at += aligned(attribute.length);
    if (bpf_skb_load_bytes(skb, at, &attribute, sizeof(attribute)) < 0)
      return -1;
  }
  return -1;
}

// NEW; UPDATE with IPS_NAT_CLASH; DESTROY with IPS_NAT_CLASH or without IPS_SEEN_REPLY; of UDP and TCP entries with one of the ports.
static __always_inline enum verdict is_wanted(struct __sk_buff *skb, const struct head *head)
{
  struct attribute second;
  __u32 at = sizeof(*head) - sizeof(head->first);
  enum verdict verdict;
  __s64 status;

  if (head->type != MESSAGE_NEW && head->type != MESSAGE_DELETE)
    return NO;
  if (head->type == MESSAGE_DELETE || (head->flags & NLM_F_CREATED) != NLM_F_CREATED) {
    status = find_status(skb, head->first);
    if (head->type == MESSAGE_NEW) {
      if (status < 0 || !(status & IPS_NAT_CLASH))
        return NO;
    } else if (status >= 0 && (status & (IPS_NAT_CLASH | IPS_SEEN_REPLY)) == IPS_SEEN_REPLY) {
      return NO;
    }
  }
  if (!is_of(head->first, CTA_TUPLE_ORIG))
    return UNKNOWN;
  verdict = test_tuple(skb, at);
  if (verdict != NO)
    return verdict;
  at += aligned(head->first.length);
  if (bpf_skb_load_bytes(skb, at, &second, sizeof(second)) < 0 || !is_of(second, CTA_TUPLE_REPLY))
    return UNKNOWN;
  return test_tuple(skb, at);
}

static __always_inline int leave(void)
{
  __sync_fetch_and_add(&left, 1);
  return LEAVE_TO_SOCKET;
}

SEC("socket")
int deliver(struct __sk_buff *skb)
{
  struct head head;
  enum verdict verdict;
  // Copied here first: between reserving a slot and giving it over nothing may take long, since the reader stops at a slot that is not given over, whoever
  // writes behind it.
  struct slot slot = {};
  __u64 length = skb->len;

  if (bpf_skb_load_bytes(skb, 0, &head, sizeof(head)) < 0)
    return leave();
  verdict = is_wanted(skb, &head);
  if (verdict == NO)
    return IGNORE;
  // One message and nothing behind it, as the kernel sends them.
  if (verdict == UNKNOWN || length != aligned(head.length))
    return leave();
  // The verifier must see both bounds of one register: nothing may be computed across them.
  asm volatile("" : "+r"(length));
  if (length > sizeof(slot))
    return leave();
  asm volatile("" : "+r"(length));
  if (length < sizeof(head))
    return leave();
  if (bpf_skb_load_bytes(skb, 0, &slot, length) < 0 || bpf_ringbuf_output(&events, &slot, sizeof(slot), 0) < 0)
    return leave();
  return IGNORE;
}

char LICENSE[] SEC("license") = "GPL";
