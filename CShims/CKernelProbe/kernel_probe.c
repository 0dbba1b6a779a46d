#include "include/CKernelProbe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "racetrack.skel.h"

struct kernel_probe {
  struct racetrack_probe *programs;
  struct ring_buffer *ring;
  // The two pages that libbpf maps too: how far the ring was read, and how far it was written.
  const uint8_t *positions;
  size_t page;
  // Where kernel_probe_next puts what it takes.
  struct kernel_probe_event *events;
  size_t capacity, count;
};

// What libbpf and the verifier had to say during one set-up. Set-up is one thread's business.
static struct kernel_probe_failure said;

static void keep_line(char *into, size_t size, const char *from)
{
  size_t length = strcspn(from, "\n");

  snprintf(into, size, "%.*s", (int)length, from);
}

// The verifier's log comes in one warning: instructions, what is wrong with the last of them, and a line of statistics.
static void keep_verdict(const char *log)
{
  const char *end = strstr(log, "\nprocessed "), *line;

  if (!end)
    end = strstr(log, "\n-- END PROG LOAD LOG");
  if (!end)
    return;
  for (line = end; line > log && line[-1] != '\n'; line--)
    ;
  keep_line(said.verdict, sizeof(said.verdict), line);
}

static int listen_to_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
  char *text;

  if (level != LIBBPF_WARN || vasprintf(&text, format, arguments) < 0)
    return 0;
  if (strstr(text, "-- BEGIN PROG LOAD LOG --"))
    keep_verdict(text);
  // The limit that libbpf could not raise is looked at apart (KernelProbeHost); what it says next is the cause.
  else if (!said.detail[0] && !strstr(text, "Failed to bump RLIMIT_MEMLOCK"))
    keep_line(said.detail, sizeof(said.detail), strncmp(text, "libbpf: ", 8) ? text : text + 8);
  free(text);
  return 0;
}

static int take(void *context, void *data, size_t size)
{
  struct kernel_probe *probe = context;

  if (size < sizeof(struct kernel_probe_event))
    return 0;
  memcpy(&probe->events[probe->count++], data, sizeof(struct kernel_probe_event));
  // A negative answer ends the round; what was taken is given back to the ring all the same.
  return probe->count == probe->capacity ? -ENOSPC : 0;
}

static int is_wanted(const struct racetrack_probe *programs, const struct bpf_program *program, enum kernel_probe_rung rung, int resolved)
{
  switch (rung) {
  case KERNEL_PROBE_FEXIT_RESOLVE: return program == programs->progs.fentry_resolve || program == programs->progs.fexit_resolve;
  case KERNEL_PROBE_KPROBE_RESOLVE: return program == programs->progs.kprobe_resolve || program == programs->progs.kretprobe_resolve;
  case KERNEL_PROBE_FEXIT_CONFIRM: return program == programs->progs.fentry_confirm || program == programs->progs.fexit_confirm;
  case KERNEL_PROBE_KPROBE_CONFIRM: return program == programs->progs.kprobe_confirm || program == programs->progs.kretprobe_confirm;
  case KERNEL_PROBE_KFREE_SKB: return program == programs->progs.kfree_skb || (resolved && program == programs->progs.net_dev_queue);
  default: return 0;
  }
}

// kprobe programs know the registers of these only (racetrack.bpf.c, first_argument). On riscv a return does not tell where the stack was.
static int can_read_registers(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
  return 1;
#else
  return 0;
#endif
}

static int seed(struct kernel_probe *probe, const struct kernel_probe_counters *counters, size_t count)
{
  int possible = libbpf_num_possible_cpus();
  struct kernel_probe_counters *values;
  uint32_t key = 0;
  int result;

  if (possible <= 0)
    return -EINVAL;
  values = calloc((size_t)possible, sizeof(*values));
  if (!values)
    return -ENOMEM;
  memcpy(values, counters, (count < (size_t)possible ? count : (size_t)possible) * sizeof(*values));
  result = bpf_map_update_elem(bpf_map__fd(probe->programs->maps.seen), &key, values, BPF_ANY);
  free(values);
  return result < 0 ? -errno : 0;
}

// libbpf reads all of the kernel's type information, some eleven MiB; what it frees the allocator would keep.
static void give_back_memory(void)
{
  malloc_trim(0);
}

static struct kernel_probe *fail(struct kernel_probe *probe, struct kernel_probe_failure *failure, enum kernel_probe_step step, int code)
{
  *failure = said;
  failure->step = step;
  failure->code = code < 0 ? -code : code;
  kernel_probe_close(probe);
  give_back_memory();
  return NULL;
}

struct kernel_probe *kernel_probe_open(
  enum kernel_probe_rung rung, int resolved, const uint16_t *ports, size_t port_count, const struct kernel_probe_counters *counters,
  size_t cpu_count, struct kernel_probe_failure *failure)
{
  struct kernel_probe *probe;
  struct bpf_program *program;
  struct stat namespace;
  void *positions;
  int result;

  memset(&said, 0, sizeof(said));
  libbpf_set_print(listen_to_libbpf);
  probe = calloc(1, sizeof(*probe));
  if (!probe)
    return fail(probe, failure, KERNEL_PROBE_OPEN, ENOMEM);
  if ((rung == KERNEL_PROBE_KPROBE_RESOLVE || rung == KERNEL_PROBE_KPROBE_CONFIRM) && !can_read_registers())
    return fail(probe, failure, KERNEL_PROBE_READ_REGISTERS, EOPNOTSUPP);
  if (stat("/proc/thread-self/ns/net", &namespace) < 0)
    return fail(probe, failure, KERNEL_PROBE_FIND_NAMESPACE, errno);
  probe->programs = racetrack_probe__open();
  if (!probe->programs)
    return fail(probe, failure, KERNEL_PROBE_OPEN, errno);
  probe->programs->rodata->namespace_number = (uint32_t)namespace.st_ino;
  bpf_object__for_each_program(program, probe->programs->obj)
    bpf_program__set_autoload(program, is_wanted(probe->programs, program, rung, resolved));
  result = racetrack_probe__load(probe->programs);
  if (result < 0)
    return fail(probe, failure, KERNEL_PROBE_LOAD, result);
  kernel_probe_set_ports(probe, ports, port_count);
  result = seed(probe, counters, cpu_count);
  if (result < 0)
    return fail(probe, failure, KERNEL_PROBE_SEED, result);
  probe->ring = ring_buffer__new(bpf_map__fd(probe->programs->maps.events), take, probe, NULL);
  if (!probe->ring)
    return fail(probe, failure, KERNEL_PROBE_MAP_RING, errno);
  probe->page = (size_t)sysconf(_SC_PAGESIZE);
  positions = mmap(NULL, 2 * probe->page, PROT_READ, MAP_SHARED, bpf_map__fd(probe->programs->maps.events), 0);
  if (positions == MAP_FAILED)
    return fail(probe, failure, KERNEL_PROBE_MAP_RING, errno);
  probe->positions = positions;
  result = racetrack_probe__attach(probe->programs);
  if (result < 0)
    return fail(probe, failure, KERNEL_PROBE_ATTACH, result);
  give_back_memory();
  return probe;
}

void kernel_probe_close(struct kernel_probe *probe)
{
  if (!probe)
    return;
  if (probe->positions)
    munmap((void *)probe->positions, 2 * probe->page);
  ring_buffer__free(probe->ring);
  racetrack_probe__destroy(probe->programs);
  free(probe);
}

int kernel_probe_descriptor(const struct kernel_probe *probe)
{
  return bpf_map__fd(probe->programs->maps.events);
}

// A look at memory, for the many times when the ring is empty: libbpf's own (ring__avail_data_size) came with 1.3.
static int has_more(const struct kernel_probe *probe)
{
  const unsigned long *read = (const unsigned long *)probe->positions, *written = (const unsigned long *)(probe->positions + probe->page);

  return __atomic_load_n(written, __ATOMIC_ACQUIRE) != __atomic_load_n(read, __ATOMIC_RELAXED);
}

size_t kernel_probe_next(struct kernel_probe *probe, struct kernel_probe_event *events, size_t capacity)
{
  probe->events = events;
  probe->capacity = capacity;
  probe->count = 0;
  if (capacity > 0 && has_more(probe))
    ring_buffer__consume(probe->ring);
  return probe->count;
}

uint64_t kernel_probe_lost(const struct kernel_probe *probe)
{
  return __atomic_load_n(&probe->programs->bss->lost, __ATOMIC_RELAXED);
}

void kernel_probe_set_ports(struct kernel_probe *probe, const uint16_t *ports, size_t count)
{
  uint8_t map[sizeof(probe->programs->bss->ports)] = {0};

  for (size_t index = 0; index < count; index++)
    map[ports[index] >> 3] |= (uint8_t)(1 << (ports[index] & 7));
  // Byte by byte: a port that stays is never out of it.
  for (size_t index = 0; index < sizeof(map); index++)
    probe->programs->bss->ports[index] = map[index];
}
