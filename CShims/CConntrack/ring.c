#include "ring.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "CConntrack.h"
#include "ring.skel.h"

struct conntrack_ring {
  struct conntrack_ring_programs *programs;
  struct ring_buffer *buffer;
  // The two pages that libbpf maps too: how far the ring was read, and how far it was written.
  const uint8_t *positions;
  size_t page;
  struct conntrack_ring_taking *taking;
};

static int take(void *context, void *data, size_t size) {
  struct conntrack_ring_taking *taking = ((struct conntrack_ring *)context)->taking;
  size_t length;
  int result = CONNTRACK_SHORT_MESSAGE;
  taking->slots--;
  if (size >= CONNTRACK_RING_SLOT) result = conntrack_parse(data, CONNTRACK_RING_SLOT, &taking->records[taking->count], &length);
  taking->tally->messages++;
  taking->tally->results[result]++;
  if (result == CONNTRACK_PARSED) taking->count++;
  // libbpf passes over what was discarded without a call; the program discards nothing. A negative answer ends the round; what was taken is given back to the ring all the same.
  return taking->count == taking->capacity || taking->slots == 0 ? -ENOSPC : 0;
}

// Nothing goes to standard error: the caller says why there is no ring.
static int say_nothing(enum libbpf_print_level level, const char *format, va_list arguments) {
  (void)level, (void)format, (void)arguments;
  return 0;
}

static struct conntrack_ring *fail(struct conntrack_ring *ring, struct conntrack_failure *failure, const char *operation, int code) {
  *failure = (struct conntrack_failure){.code = code < 0 ? -code : code, .operation = operation};
  conntrack_ring_close(ring);
  return NULL;
}

struct conntrack_ring *conntrack_ring_open(const uint16_t *ports, size_t count, struct conntrack_failure *failure) {
  struct conntrack_ring *ring = calloc(1, sizeof *ring);
  if (ring == NULL) return fail(ring, failure, "allocate an event ring", ENOMEM);
  libbpf_set_print(say_nothing);
  ring->programs = conntrack_ring_programs__open();
  if (ring->programs == NULL) return fail(ring, failure, "open the event ring's program", errno);
  int result = conntrack_ring_programs__load(ring->programs);
  if (result < 0) return fail(ring, failure, "load the event ring's program", result);
  result = conntrack_ring_set_ports(ring, ports, count);
  if (result < 0) return fail(ring, failure, "set the event ring's ports", result);
  ring->buffer = ring_buffer__new(conntrack_ring_descriptor(ring), take, ring, NULL);
  if (ring->buffer == NULL) return fail(ring, failure, "map the event ring", errno);
  ring->page = (size_t)sysconf(_SC_PAGESIZE);
  void *positions = mmap(NULL, 2 * ring->page, PROT_READ, MAP_SHARED, conntrack_ring_descriptor(ring), 0);
  if (positions == MAP_FAILED) return fail(ring, failure, "map the event ring's positions", errno);
  ring->positions = positions;
  return ring;
}

void conntrack_ring_close(struct conntrack_ring *ring) {
  if (ring == NULL) return;
  if (ring->positions != NULL) munmap((void *)ring->positions, 2 * ring->page);
  ring_buffer__free(ring->buffer);
  conntrack_ring_programs__destroy(ring->programs);
  free(ring);
}

int conntrack_ring_descriptor(const struct conntrack_ring *ring) { return bpf_map__fd(ring->programs->maps.events); }

int conntrack_ring_attach(const struct conntrack_ring *ring, int descriptor) {
  int program = bpf_program__fd(ring->programs->progs.deliver);
  return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program) < 0 ? -errno : 0;
}

int conntrack_ring_set_ports(struct conntrack_ring *ring, const uint16_t *ports, size_t count) {
  uint8_t map[sizeof ring->programs->bss->ports] = {0};
  if (count > CONNTRACK_PORTS_MAX) return -E2BIG;
  for (size_t index = 0; index < count; index++) map[ports[index] >> 3] |= (uint8_t)(1 << (ports[index] & 7));
  // Byte by byte: a port that stays is never out of it.
  for (size_t index = 0; index < sizeof map; index++) ring->programs->bss->ports[index] = map[index];
  return 0;
}

size_t conntrack_ring_slots(const struct conntrack_ring *ring) {
  const unsigned long *read = (const unsigned long *)ring->positions, *written = (const unsigned long *)(ring->positions + ring->page);
  return (__atomic_load_n(written, __ATOMIC_ACQUIRE) - __atomic_load_n(read, __ATOMIC_RELAXED)) / (CONNTRACK_RING_HEADER + CONNTRACK_RING_SLOT);
}

void conntrack_ring_take(struct conntrack_ring *ring, struct conntrack_ring_taking *taking) {
  ring->taking = taking;
  if (taking->slots > 0 && taking->count < taking->capacity) ring_buffer__consume(ring->buffer);
}

void conntrack_ring_discard(struct conntrack_ring *ring) {
  struct conntrack_record record;
  struct conntrack_tally tally = {0};
  size_t slots, before;
  do {
    struct conntrack_ring_taking taking = {.records = &record, .capacity = 1, .tally = &tally};
    before = taking.slots = slots = conntrack_ring_slots(ring);
    conntrack_ring_take(ring, &taking);
    slots = taking.slots;
  } while (slots < before);
}

uint64_t conntrack_ring_left(const struct conntrack_ring *ring) { return __atomic_load_n(&ring->programs->bss->left, __ATOMIC_RELAXED); }
