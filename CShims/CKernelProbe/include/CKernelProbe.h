// The kernel probe: eBPF programs that tell of DNS packets which clashed in connection tracking, by libbpf. No policy, no logging.
// Set-up needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN); afterwards no call here makes a system call but kernel_probe_close.
#pragma once

#include "CKernelProbeEvent.h"

#include <stddef.h>
#include <stdint.h>

/// Where the programs sit, the cheapest for bystanders first.
enum kernel_probe_rung {
  /// fentry and fexit of nf_ct_resolve_clash.
  KERNEL_PROBE_FEXIT_RESOLVE,
  /// kprobe and kretprobe of nf_ct_resolve_clash.
  KERNEL_PROBE_KPROBE_RESOLVE,
  /// fentry and fexit of __nf_conntrack_confirm.
  KERNEL_PROBE_FEXIT_CONFIRM,
  /// kprobe and kretprobe of __nf_conntrack_confirm.
  KERNEL_PROBE_KPROBE_CONFIRM,
  /// The raw tracepoint kfree_skb.
  KERNEL_PROBE_KFREE_SKB,
  KERNEL_PROBE_RUNGS,
};

/// What is done to open a rung, in this order.
enum kernel_probe_step {
  KERNEL_PROBE_FIND_NAMESPACE,
  /// Do kprobe programs know this architecture's registers?
  KERNEL_PROBE_READ_REGISTERS,
  KERNEL_PROBE_OPEN,
  KERNEL_PROBE_LOAD,
  KERNEL_PROBE_SEED,
  KERNEL_PROBE_MAP_RING,
  KERNEL_PROBE_ATTACH,
  KERNEL_PROBE_STEPS,
};

/// Why a rung does not run. `code` is an errno, or one of libbpf's own (enum libbpf_errno). `detail` is the first warning of libbpf, `verdict` what the
/// kernel's verifier said last; either may be empty.
struct kernel_probe_failure {
  int code;
  enum kernel_probe_step step;
  char detail[160];
  char verdict[120];
};

/// What one CPU's counters are when the programs start, in the order of the possible CPUs.
struct kernel_probe_counters {
  uint32_t insert_failed, drop, clash_resolve, is_known;
};

struct kernel_probe;

/// Loads and attaches one rung's programs for the calling thread's network namespace. NULL with `failure` set.
///
/// - Parameter resolved: KERNEL_PROBE_KFREE_SKB only: also watches every packet that leaves, for clashes that were resolved.
struct kernel_probe *kernel_probe_open(
  enum kernel_probe_rung rung, int resolved, const uint16_t *ports, size_t port_count, const struct kernel_probe_counters *counters,
  size_t cpu_count, struct kernel_probe_failure *failure);
void kernel_probe_close(struct kernel_probe *probe);
/// For epoll, EPOLLIN.
int kernel_probe_descriptor(const struct kernel_probe *probe);
/// Takes events out of the ring, in the order in which they were entered. The number taken: `capacity` where more may wait.
size_t kernel_probe_next(struct kernel_probe *probe, struct kernel_probe_event *events, size_t capacity);
/// Events that found no room in the ring, since it was opened.
uint64_t kernel_probe_lost(const struct kernel_probe *probe);
void kernel_probe_set_ports(struct kernel_probe *probe, const uint16_t *ports, size_t count);
