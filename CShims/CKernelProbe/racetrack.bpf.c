// SPDX-License-Identifier: GPL-2.0
// Tells user space of each UDP DNS packet that the kernel dropped at conntrack insertion in one network namespace, and, where a program can see it
// without cost to bystanders, of each clash that it resolved. One of the groups of programs below is loaded (kernel_probe.c).
#include "kernel.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "include/CKernelProbeEvent.h"

// struct net.ns.inum of the namespace to watch.
const volatile __u32 namespace_number = 0;
// Bit n: port n is a DNS port. Mapped by user space, which may learn ports after it gave its rights up.
__u8 ports[8192];
// What may have been missed: events that found no room in the ring, and packets of which it could not be told whether they were dropped.
__u64 lost;

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} events SEC(".maps");

// The counters of one CPU (struct ip_conntrack_stat).
struct counters {
  __u32 insert_failed, drop, clash_resolve;
  __u32 is_known;
};

// What this CPU's counters were when it was last looked. Written by user space before the programs run.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct counters);
} seen SEC(".maps");

// A packet on its way through the function that is watched, as it was at the entry.
struct passage {
  // 0: no packet that is to be told of.
  struct sk_buff *skb;
  struct nf_conn *ct;
  __u64 entered;
  __u32 cpu;
  __u32 has_winner;
  struct counters counters;
  struct kernel_probe_tuple original, reply, winner_original, winner_reply;
};

// The passages of this moment, by what tells one from every other: fentry and fexit know the packet, kprobe and kretprobe where on its stack the function
// was called. The thread does not tell them apart, nor does the CPU: an interrupt's packet passes through the function while a thread's is in it, and of
// either the kernel may leave an entry or a return out (no room for another return, a program of the kind that runs already).
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, struct passage);
} passing SEC(".maps");

// Where passages are made: too large for the stack. An interrupt's packet may come while a thread's is noted: before Linux 5.12 nothing keeps an fentry
// program from running inside itself.
struct draft {
  volatile __u32 is_busy;
  struct passage passage;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct draft);
} fresh SEC(".maps");

// Reads a kernel pointer or number at an address that the verifier knows as one of its own: a plain number comes out.
static __always_inline unsigned long as_number(const void *pointer)
{
  unsigned long number = 0;

  bpf_probe_read_kernel(&number, sizeof(number), &pointer);
  return number;
}

// This CPU's counters of a namespace. Their per-CPU offset is that of any per-CPU map: symbols of it are not to be had everywhere.
static __always_inline struct counters *read_counters(struct net *net, struct counters *now)
{
  __u32 zero = 0;
  struct counters *last = bpf_map_lookup_elem(&seen, &zero);
  unsigned long first = 0;
  struct ip_conntrack_stat *stat;

  if (!last)
    return 0;
  bpf_probe_read_kernel(&first, sizeof(first), (void *)(as_number(&seen) + bpf_core_field_offset(struct bpf_array, pptrs)));
  stat = (void *)((unsigned long)BPF_CORE_READ(net, ct.stat) + (as_number(last) - first));
  now->insert_failed = BPF_CORE_READ(stat, insert_failed);
  now->drop = BPF_CORE_READ(stat, drop);
  now->clash_resolve = bpf_core_field_exists(stat->clash_resolve) ? BPF_CORE_READ(stat, clash_resolve) : 0;
  now->is_known = 1;
  return last;
}

static __always_inline struct nf_conn *entry_of(struct sk_buff *skb, __u32 *info)
{
  unsigned long nfct = BPF_CORE_READ(skb, _nfct);

  *info = nfct & NFCT_INFOMASK;
  return (void *)(nfct & ~(unsigned long)NFCT_INFOMASK);
}

// The namespace of an entry, if it is the one to watch.
static __always_inline struct net *own_namespace(struct nf_conn *ct)
{
  struct net *net = BPF_CORE_READ(ct, ct_net.net);

  return net && BPF_CORE_READ(net, ns.inum) == namespace_number ? net : 0;
}

static __always_inline void read_tuple(struct nf_conn *ct, int direction, struct kernel_probe_tuple *tuple)
{
  bpf_probe_read_kernel(tuple, sizeof(*tuple), direction ? &ct->tuplehash[1].tuple : &ct->tuplehash[0].tuple);
}

static __always_inline int has_dns_port(__u16 port)
{
  __u16 number = __builtin_bswap16(port);

  return ports[(number >> 3) & 8191] >> (number & 7) & 1;
}

// True for queries: the port that was asked, or the one it was translated to.
static __always_inline int is_dns(const struct kernel_probe_tuple *original, const struct kernel_probe_tuple *reply)
{
  return original->protocol == IPPROTO_UDP && (has_dns_port(original->destination_port) || has_dns_port(reply->source_port));
}

static __always_inline void count_lost(void) { __sync_fetch_and_add(&lost, 1); }

static __always_inline void read_packet(struct sk_buff *skb, struct kernel_probe_event *event)
{
  unsigned char *head = BPF_CORE_READ(skb, head);
  __u16 network = BPF_CORE_READ(skb, network_header);
  __u32 paged = BPF_CORE_READ(skb, data_len);
  // To the end of the linear part; what lies in pages is left out.
  __s64 length = BPF_CORE_READ(skb, data) - head + (__s64)(BPF_CORE_READ(skb, len) - paged) - network;
  __u32 size = length < 0 ? 0 : length > KERNEL_PROBE_PACKET ? KERNEL_PROBE_PACKET : (__u32)length;
  __s64 whole = length + paged;

  event->whole_length = whole < 0 ? 0 : whole > 0xFFFF ? 0xFFFF : (__u16)whole;
  // The verifier must see the bound on the register that is passed on.
  asm volatile("" : "+r"(size));
  if (size > KERNEL_PROBE_PACKET || bpf_probe_read_kernel(event->packet, size, head + network) < 0)
    size = 0;
  event->length = size;
}

static __always_inline struct kernel_probe_event *begin_event(struct sk_buff *skb, struct nf_conn *ct, __u8 kind, __u8 flags)
{
  struct kernel_probe_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

  if (!event) {
    count_lost();
    return 0;
  }
  event->time = bpf_ktime_get_ns();
  event->cpu = bpf_get_smp_processor_id();
  event->interface = BPF_CORE_READ(skb, skb_iif);
  event->zone = 0;
  event->kind = kind;
  event->flags = flags;
  // Kernels without zones have no such field: then there is the one zone 0.
  if (bpf_core_field_exists(ct->zone))
    event->zone = BPF_CORE_READ(ct, zone.id);
  event->flags |= KERNEL_PROBE_ZONE;
  read_packet(skb, event);
  return event;
}

// --- raw tracepoints: kfree_skb for what is dropped, net_dev_queue for what is resolved

SEC("raw_tp/kfree_skb")
int kfree_skb(__u64 *arguments)
{
  struct sk_buff *skb = (void *)arguments[0];
  struct kernel_probe_event *event;
  struct kernel_probe_tuple original, reply;
  struct counters now, was, *last;
  unsigned long status;
  struct nf_conn *ct;
  struct net *net;
  __u32 info;
  int exact;

  ct = entry_of(skb, &info);
  if (!ct)
    return 0;
  status = BPF_CORE_READ(ct, status);
  if (status & (IPS_CONFIRMED | IPS_TEMPLATE))
    return 0;
  net = own_namespace(ct);
  if (!net)
    return 0;
  last = read_counters(net, &now);
  if (!last)
    return 0;
  was = *last;
  *last = now;
  // The first sight of a CPU that user space did not know tells no difference.
  if (!was.is_known || now.insert_failed == was.insert_failed || now.drop == was.drop)
    return 0;
  // Dropped between the NAT hooks, before it could clash: somebody else's failure was seen first.
  if ((status & IPS_NAT_DONE) != 0 && (status & IPS_NAT_DONE) != IPS_NAT_DONE)
    return 0;
  exact = now.insert_failed - was.insert_failed == 1 && now.drop - was.drop == 1;
  read_tuple(ct, 0, &original);
  read_tuple(ct, 1, &reply);
  if (!is_dns(&original, &reply))
    return 0;
  event = begin_event(skb, ct, KERNEL_PROBE_DROPPED, exact ? KERNEL_PROBE_EXACT : 0);
  if (!event)
    return 0;
  event->original = original;
  event->reply = reply;
  bpf_ringbuf_submit(event, 0);
  return 0;
}

// After POSTROUTING the packet still has its entry: the loser's own, or the winner's if it was merged. Runs for every packet that leaves.
SEC("raw_tp/net_dev_queue")
int net_dev_queue(__u64 *arguments)
{
  struct sk_buff *skb = (void *)arguments[0];
  struct kernel_probe_event *event;
  struct kernel_probe_tuple original, reply;
  struct counters now, was, *last;
  unsigned long status;
  struct nf_conn *ct;
  struct net *net;
  __u32 info;

  ct = entry_of(skb, &info);
  if (!ct || info >= IP_CT_IS_REPLY)
    return 0;
  status = BPF_CORE_READ(ct, status);
  if (status & IPS_SEEN_REPLY)
    return 0;
  read_tuple(ct, 0, &original);
  if (original.protocol != IPPROTO_UDP)
    return 0;
  net = own_namespace(ct);
  if (!net)
    return 0;
  last = read_counters(net, &now);
  if (!last)
    return 0;
  was = *last;
  last->clash_resolve = now.clash_resolve;
  if (!was.is_known || now.clash_resolve == was.clash_resolve)
    return 0;
  read_tuple(ct, 1, &reply);
  if (!is_dns(&original, &reply))
    return 0;
  event = begin_event(
    skb, ct, status & IPS_NAT_CLASH ? KERNEL_PROBE_REPLY_ONLY : KERNEL_PROBE_MERGED,
    now.clash_resolve - was.clash_resolve == 1 ? KERNEL_PROBE_EXACT : 0);
  if (!event)
    return 0;
  event->original = original;
  event->reply = reply;
  bpf_ringbuf_submit(event, 0);
  return 0;
}

// --- what happens between the entry and the return of a function of nf_conntrack_core.c

// Longer than any packet is on its way through one function: what was noted before is of a return that was never seen.
enum { LONGEST_PASSAGE = 1000000000 };

// Notes a packet. False where it is none of ours.
static __always_inline int note(struct sk_buff *skb, struct passage *passage)
{
  struct net *net;
  __u32 info;

  passage->ct = entry_of(skb, &info);
  if (!passage->ct)
    return 0;
  net = own_namespace(passage->ct);
  if (!net)
    return 0;
  read_tuple(passage->ct, 0, &passage->original);
  read_tuple(passage->ct, 1, &passage->reply);
  if (!is_dns(&passage->original, &passage->reply) || !read_counters(net, &passage->counters))
    return 0;
  passage->skb = skb;
  passage->entered = bpf_ktime_get_ns();
  passage->cpu = bpf_get_smp_processor_id();
  passage->has_winner = 0;
  return 1;
}

// The entry that a packet clashes with: nf_ct_tuplehash_to_ctrack, the entry around this one of its two tuples.
static __always_inline void note_winner(struct nf_conntrack_tuple_hash *hash, struct passage *passage)
{
  struct kernel_probe_tuple tuple;
  struct nf_conn *winner;

  if (!hash || bpf_probe_read_kernel(&tuple, sizeof(tuple), &hash->tuple) < 0)
    return;
  winner = (void *)hash - bpf_core_field_offset(struct nf_conn, tuplehash) -
    (tuple.direction & 1) * bpf_core_type_size(struct nf_conntrack_tuple_hash);
  read_tuple(winner, 0, &passage->winner_original);
  read_tuple(winner, 1, &passage->winner_reply);
  passage->has_winner = 1;
}

// Where no passage can be made: true if the packet would have been noted.
static __always_inline int is_ours(struct sk_buff *skb)
{
  struct kernel_probe_tuple original, reply;
  struct nf_conn *ct;
  __u32 info;

  ct = entry_of(skb, &info);
  if (!ct || !own_namespace(ct))
    return 0;
  read_tuple(ct, 0, &original);
  read_tuple(ct, 1, &reply);
  return is_dns(&original, &reply);
}

// - Parameter winner: 0 where the function is not told.
static __always_inline int enter(struct sk_buff *skb, __u64 key, struct nf_conntrack_tuple_hash *winner)
{
  struct passage *passage = bpf_map_lookup_elem(&passing, &key);
  struct draft *draft;
  __u32 zero = 0;

  // Its return was never seen, and must not be taken for this one's.
  if (passage)
    passage->skb = 0;
  draft = bpf_map_lookup_elem(&fresh, &zero);
  if (!draft)
    return 0;
  if (draft->is_busy) {
    if (is_ours(skb))
      count_lost();
    return 0;
  }
  draft->is_busy = 1;
  passage = &draft->passage;
  if (note(skb, passage)) {
    note_winner(winner, passage);
    if (bpf_map_update_elem(&passing, &key, passage, BPF_ANY))
      count_lost();
  }
  draft->is_busy = 0;
  return 0;
}

// Tells what became of a packet that was noted, where that is a clash.
static __always_inline void tell(struct passage *passage, int verdict)
{
  struct sk_buff *skb = passage->skb;
  struct kernel_probe_event *event;
  struct nf_conn *ct = passage->ct;
  struct counters now;
  struct net *net;
  __u32 info;
  __u8 kind, flags;
  int exact;

  // A merged loser's entry may be gone by now: only the winner's is read then.
  ct = entry_of(skb, &info);
  net = ct ? own_namespace(ct) : 0;
  if (!net || !read_counters(net, &now))
    return;
  if (verdict == NF_ACCEPT) {
    if (ct != passage->ct)
      kind = KERNEL_PROBE_MERGED;
    else if (BPF_CORE_READ(ct, status) & IPS_NAT_CLASH)
      kind = KERNEL_PROBE_REPLY_ONLY;
    else
      return;
    exact = now.clash_resolve - passage->counters.clash_resolve == 1;
  } else {
    // Other packets that are refused at insertion (a dying entry, a chain too long) leave one of the two alone.
    if (now.insert_failed == passage->counters.insert_failed || now.drop == passage->counters.drop)
      return;
    kind = KERNEL_PROBE_DROPPED;
    exact = now.insert_failed - passage->counters.insert_failed == 1 && now.drop - passage->counters.drop == 1;
  }
  flags = exact && passage->cpu == bpf_get_smp_processor_id() ? KERNEL_PROBE_EXACT : 0;
  if (passage->has_winner)
    flags |= KERNEL_PROBE_WINNER;
  event = begin_event(skb, ct, kind, flags);
  if (!event)
    return;
  event->original = passage->original;
  event->reply = passage->reply;
  event->winner_original = passage->winner_original;
  event->winner_reply = passage->winner_reply;
  bpf_ringbuf_submit(event, 0);
}

static __always_inline int leave(__u64 key, int verdict)
{
  struct passage *passage = bpf_map_lookup_elem(&passing, &key);
  int is_old;

  if (!passage)
    return 0;
  is_old = bpf_ktime_get_ns() - passage->entered >= LONGEST_PASSAGE;
  // A thread may be moved before the kernel keeps it on one CPU: what this CPU's counters were is not known then.
  if (passage->skb && verdict != NF_ACCEPT && (is_old || passage->cpu != bpf_get_smp_processor_id()))
    count_lost();
  else if (passage->skb && !is_old)
    tell(passage, verdict);
  bpf_map_delete_elem(&passing, &key);
  return 0;
}

// The verifier knows the types of arguments, and allows no arithmetic from one type to another.
static __always_inline void *argument(__u64 *arguments, int index) { return (void *)as_number((void *)arguments[index]); }

// kprobes get struct pt_regs, which every architecture shapes differently: the field that exists tells which one it is.
static __always_inline void *first_argument(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->di))
    return (void *)BPF_CORE_READ((struct pt_regs___x86 *)registers, di);
  if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->pstate))
    return (void *)BPF_CORE_READ((struct pt_regs___arm64 *)registers, regs[0]);
  return 0;
}

static __always_inline void *second_argument(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->di))
    return (void *)BPF_CORE_READ((struct pt_regs___x86 *)registers, si);
  if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->pstate))
    return (void *)BPF_CORE_READ((struct pt_regs___arm64 *)registers, regs[1]);
  return 0;
}

static __always_inline int returned(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->di))
    return (int)BPF_CORE_READ((struct pt_regs___x86 *)registers, ax);
  return (int)(unsigned long)first_argument(registers);
}

// Where the caller's stack ends: the same at the entry of a function and after its return, and of no two calls that are under way. x86 has the return
// address on the stack at the entry.
static __always_inline __u64 stack_of_caller(void *registers, int is_entry)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->di))
    return BPF_CORE_READ((struct pt_regs___x86 *)registers, sp) + (is_entry ? sizeof(long) : 0);
  if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->pstate))
    return BPF_CORE_READ((struct pt_regs___arm64 *)registers, sp);
  return 0;
}

// --- nf_ct_resolve_clash(skb, h, reply_hash): runs for clashes only (net/netfilter/nf_conntrack_core.c, 5.10 and later)

SEC("fentry/nf_ct_resolve_clash")
int fentry_resolve(__u64 *arguments)
{
  void *skb = argument(arguments, 0);

  return enter(skb, (__u64)skb, argument(arguments, 1));
}

SEC("fexit/nf_ct_resolve_clash")
int fexit_resolve(__u64 *arguments) { return leave((__u64)argument(arguments, 0), (int)arguments[3]); }

SEC("kprobe/nf_ct_resolve_clash")
int kprobe_resolve(void *registers) { return enter(first_argument(registers), stack_of_caller(registers, 1), second_argument(registers)); }

SEC("kretprobe/nf_ct_resolve_clash")
int kretprobe_resolve(void *registers) { return leave(stack_of_caller(registers, 0), returned(registers)); }

// --- __nf_conntrack_confirm(skb): runs for the first packet of every flow (exported, 3.5 and later)

SEC("fentry/__nf_conntrack_confirm")
int fentry_confirm(__u64 *arguments)
{
  void *skb = argument(arguments, 0);

  return enter(skb, (__u64)skb, 0);
}

SEC("fexit/__nf_conntrack_confirm")
int fexit_confirm(__u64 *arguments) { return leave((__u64)argument(arguments, 0), (int)arguments[1]); }

SEC("kprobe/__nf_conntrack_confirm")
int kprobe_confirm(void *registers) { return enter(first_argument(registers), stack_of_caller(registers, 1), 0); }

SEC("kretprobe/__nf_conntrack_confirm")
int kretprobe_confirm(void *registers) { return leave(stack_of_caller(registers, 0), returned(registers)); }

char LICENSE[] SEC("license") = "GPL";
