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
// Events that found no room in the ring.
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
  struct sk_buff *skb;
  struct nf_conn *ct;
  __u32 cpu;
  __u32 has_winner;
  struct counters counters;
  struct kernel_probe_tuple original, reply, winner_original, winner_reply;
};

// One per CPU: nf_ct_resolve_clash runs with bottom halves off, so nothing comes between its entry and its return.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct passage);
} resolving SEC(".maps");

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

static __always_inline void read_packet(struct sk_buff *skb, struct kernel_probe_event *event)
{
  unsigned char *head = BPF_CORE_READ(skb, head);
  __u16 network = BPF_CORE_READ(skb, network_header);
  // To the end of the linear part; what lies in pages is left out.
  __s64 length = BPF_CORE_READ(skb, data) - head + (__s64)(BPF_CORE_READ(skb, len) - BPF_CORE_READ(skb, data_len)) - network;
  __u32 size = length < 0 ? 0 : length > KERNEL_PROBE_PACKET ? KERNEL_PROBE_PACKET : (__u32)length;

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
    __sync_fetch_and_add(&lost, 1);
    return 0;
  }
  event->time = bpf_ktime_get_ns();
  event->cpu = bpf_get_smp_processor_id();
  event->interface = BPF_CORE_READ(skb, skb_iif);
  event->zone = 0;
  event->padding = 0;
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

// Notes a packet at the entry. False where it is none of ours.
static __always_inline int enter(struct sk_buff *skb, struct passage *passage)
{
  struct net *net;
  __u32 info;

  passage->skb = 0;
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
  passage->cpu = bpf_get_smp_processor_id();
  passage->has_winner = 0;
  return 1;
}

// Tells what became of a packet that was noted, where that is a clash.
static __always_inline void leave(struct passage *passage, int verdict)
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

// --- nf_ct_resolve_clash(skb, h, reply_hash): runs for clashes only (net/netfilter/nf_conntrack_core.c, 5.10 and later)

static __always_inline int enter_resolve(struct sk_buff *skb, struct nf_conntrack_tuple_hash *hash)
{
  __u32 zero = 0;
  struct passage *passage = bpf_map_lookup_elem(&resolving, &zero);
  struct kernel_probe_tuple tuple;
  struct nf_conn *winner;

  if (!passage || !enter(skb, passage) || !hash)
    return 0;
  // nf_ct_tuplehash_to_ctrack: the entry around this one of its two tuples.
  if (bpf_probe_read_kernel(&tuple, sizeof(tuple), &hash->tuple) < 0)
    return 0;
  winner = (void *)hash - bpf_core_field_offset(struct nf_conn, tuplehash) -
    (tuple.direction & 1) * bpf_core_type_size(struct nf_conntrack_tuple_hash);
  read_tuple(winner, 0, &passage->winner_original);
  read_tuple(winner, 1, &passage->winner_reply);
  passage->has_winner = 1;
  return 0;
}

static __always_inline int leave_resolve(int verdict)
{
  __u32 zero = 0;
  struct passage *passage = bpf_map_lookup_elem(&resolving, &zero);

  if (!passage || !passage->skb)
    return 0;
  leave(passage, verdict);
  passage->skb = 0;
  return 0;
}

SEC("fentry/nf_ct_resolve_clash")
int fentry_resolve(__u64 *arguments)
{
  // The verifier knows the types of arguments, and allows no arithmetic from one type to another.
  return enter_resolve((void *)as_number((void *)arguments[0]), (void *)as_number((void *)arguments[1]));
}

SEC("fexit/nf_ct_resolve_clash")
int fexit_resolve(__u64 *arguments) { return leave_resolve((int)arguments[3]); }

// kprobes get struct pt_regs, which every architecture shapes differently: the field that exists tells which one it is.
static __always_inline unsigned long first_argument(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->di))
    return BPF_CORE_READ((struct pt_regs___x86 *)registers, di);
  if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->pstate))
    return BPF_CORE_READ((struct pt_regs___arm64 *)registers, regs[0]);
  if (bpf_core_field_exists(((struct pt_regs___riscv *)0)->epc))
    return BPF_CORE_READ((struct pt_regs___riscv *)registers, a0);
  return 0;
}

static __always_inline unsigned long second_argument(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->si))
    return BPF_CORE_READ((struct pt_regs___x86 *)registers, si);
  if (bpf_core_field_exists(((struct pt_regs___arm64 *)0)->pstate))
    return BPF_CORE_READ((struct pt_regs___arm64 *)registers, regs[1]);
  if (bpf_core_field_exists(((struct pt_regs___riscv *)0)->epc))
    return BPF_CORE_READ((struct pt_regs___riscv *)registers, a1);
  return 0;
}

static __always_inline int returned(void *registers)
{
  if (bpf_core_field_exists(((struct pt_regs___x86 *)0)->ax))
    return BPF_CORE_READ((struct pt_regs___x86 *)registers, ax);
  return first_argument(registers);
}

SEC("kprobe/nf_ct_resolve_clash")
int kprobe_resolve(void *registers) { return enter_resolve((void *)first_argument(registers), (void *)second_argument(registers)); }

SEC("kretprobe/nf_ct_resolve_clash")
int kretprobe_resolve(void *registers) { return leave_resolve(returned(registers)); }

// --- __nf_conntrack_confirm(skb): runs for the first packet of every flow (exported, 3.5 and later)

enum { NESTED = 2 };

// The passages of one thread, the last entered last: a thread on its way through the function can be interrupted, and the interrupt's packet passes
// through it before the thread goes on.
struct passages {
  __u64 entered;
  __u32 depth;
  // Bit n: passage n is one of ours.
  __u32 noted;
  struct passage passage[NESTED];
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u64);
  __type(value, struct passages);
} confirming SEC(".maps");

// Where a new thread's passages are made: too large for the stack.
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct passages);
} fresh SEC(".maps");

// The thread; for the idle threads, which all are number 0, the CPU.
static __always_inline __u64 thread(void)
{
  __u32 number = (__u32)bpf_get_current_pid_tgid();

  return number ? number : 1ULL << 32 | bpf_get_smp_processor_id();
}

// The verifier must see the bound on the number that is used.
static __always_inline struct passage *passage_at(struct passages *passages, __u32 depth)
{
  depth &= NESTED - 1;
  asm volatile("" : "+r"(depth));
  depth &= NESTED - 1;
  return &passages->passage[depth];
}

static __always_inline int enter_confirm(struct sk_buff *skb)
{
  __u64 key = thread(), now = bpf_ktime_get_ns();
  struct passages *passages = bpf_map_lookup_elem(&confirming, &key);
  __u32 zero = 0, depth;
  struct passages *made;

  if (passages && passages->depth > 0) {
    // A return that was never seen (kretprobes can miss some) must not be taken for another's.
    if (now - passages->entered > 1000000000)
      passages->depth = 0;
    depth = passages->depth;
    passages->depth = depth + 1;
    if (depth >= NESTED)
      return 0;
    if (enter(skb, passage_at(passages, depth)))
      passages->noted |= 1u << depth;
    else
      passages->noted &= ~(1u << depth);
    return 0;
  }
  made = bpf_map_lookup_elem(&fresh, &zero);
  if (!made || !enter(skb, &made->passage[0]))
    return 0;
  made->entered = now;
  made->depth = 1;
  made->noted = 1;
  bpf_map_update_elem(&confirming, &key, made, BPF_ANY);
  return 0;
}

// - Parameter skb: 0 where a return does not know it.
static __always_inline int leave_confirm(struct sk_buff *skb, int verdict)
{
  __u64 key = thread();
  struct passages *passages = bpf_map_lookup_elem(&confirming, &key);
  struct passage *passage;
  __u32 depth;

  if (!passages || passages->depth == 0)
    return 0;
  depth = passages->depth - 1;
  passages->depth = depth;
  if (depth >= NESTED || !(passages->noted >> depth & 1))
    return 0;
  passage = passage_at(passages, depth);
  if (!skb || skb == passage->skb)
    leave(passage, verdict);
  if (depth == 0)
    bpf_map_delete_elem(&confirming, &key);
  return 0;
}

SEC("fentry/__nf_conntrack_confirm")
int fentry_confirm(__u64 *arguments) { return enter_confirm((void *)as_number((void *)arguments[0])); }

SEC("fexit/__nf_conntrack_confirm")
int fexit_confirm(__u64 *arguments) { return leave_confirm((void *)as_number((void *)arguments[0]), (int)arguments[1]); }

SEC("kprobe/__nf_conntrack_confirm")
int kprobe_confirm(void *registers) { return enter_confirm((void *)first_argument(registers)); }

SEC("kretprobe/__nf_conntrack_confirm")
int kretprobe_confirm(void *registers) { return leave_confirm(0, returned(registers)); }

char LICENSE[] SEC("license") = "GPL";
