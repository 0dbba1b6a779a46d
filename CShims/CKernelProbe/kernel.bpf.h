// The kernel's types as far as the probe reads them, declared by hand: CO-RE finds the fields in the running kernel (BTF). Layouts here mean nothing.
#pragma once

#include "../types.bpf.h"

// enum ip_conntrack_status (include/uapi/linux/netfilter/nf_conntrack_common.h). NAT_CLASH is the former UNTRACKED bit.
enum {
  IPS_SEEN_REPLY = 1 << 1,
  IPS_CONFIRMED = 1 << 3,
  IPS_NAT_DONE = 1 << 7 | 1 << 8,
  IPS_TEMPLATE = 1 << 11,
  IPS_NAT_CLASH = 1 << 12,
};
// include/net/netfilter/nf_conntrack.h: the low bits of sk_buff._nfct are the packet's enum ip_conntrack_info; from 3 on it goes in reply direction.
enum { NFCT_INFOMASK = 7, IP_CT_IS_REPLY = 3 };
enum { IPPROTO_UDP = 17 };
enum { NF_DROP = 0, NF_ACCEPT = 1 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
  unsigned int inum;
};
struct ip_conntrack_stat {
  unsigned int insert_failed, clash_resolve, drop;
};
struct netns_ct {
  struct ip_conntrack_stat *stat;
};
struct net {
  struct ns_common ns;
  struct netns_ct ct;
};
typedef struct {
  struct net *net;
} possible_net_t;
struct nf_conntrack_zone {
  __u16 id;
};
struct nf_conntrack_tuple {
  __u8 bytes[40];
};
struct nf_conntrack_tuple_hash {
  struct nf_conntrack_tuple tuple;
};
struct nf_conn {
  struct nf_conntrack_zone zone;
  struct nf_conntrack_tuple_hash tuplehash[2];
  unsigned long status;
  possible_net_t ct_net;
};
struct sk_buff {
  unsigned int len, data_len;
  int skb_iif;
  unsigned long _nfct;
  __u16 network_header;
  unsigned char *head, *data;
};
struct bpf_array {
  void *pptrs[0];
};

// Arguments, return value and stack, by the fields that only this architecture's struct pt_regs has.
struct pt_regs___x86 {
  unsigned long di, si, ax, sp;
};
struct pt_regs___arm64 {
  unsigned long regs[31];
  unsigned long sp;
  unsigned long pstate;
};

#pragma clang attribute pop
