// The floor: the agent's two sockets with the agent's filters, buffers and coalesced sweeps, and nothing done with what they bring. With the agent's event
// ring, what is parsed there is.
#include "CBench.h"

#include <CConntrack.h>
#include <CLinux.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "signals.h"

enum { BATCH = 64, DATAGRAM = 4096, BLOCK_SIZE = 16 << 10, BLOCKS = 256, RETIRE_MS = 10, RECEIVE_BUFFER = 8 << 20 };

struct floor {
  int events;
  int ring;
  uint8_t *memory;
  unsigned next_block;
  uint64_t seen_events;
  uint64_t seen_packets;
  uint64_t sweeps;
  // What the stamps add up to: they must be read, not skipped.
  uint64_t stamps;
  // NULL: events come through the socket.
  struct conntrack_ring *event_ring;
  struct conntrack_record records[BATCH];
  struct conntrack_tally tally;
  struct mmsghdr messages[BATCH];
  struct iovec vectors[BATCH];
  char datagrams[BATCH][DATAGRAM];
};

static int open_events(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  int size = RECEIVE_BUFFER, on = 1;
  uint16_t port = 53;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  address.nl_groups = 1u << (NFNLGRP_CONNTRACK_NEW - 1) | 1u << (NFNLGRP_CONNTRACK_UPDATE - 1) | 1u << (NFNLGRP_CONNTRACK_DESTROY - 1);
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0) return -errno;
  if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) < 0) return -errno;
  int result = conntrack_attach_filter(fd, &port, 1);
  if (result < 0) return result;
  return bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : fd;
}

static int open_ring(const struct sock_filter *filter, uint16_t length, uint8_t **memory) {
  void *mapping = NULL;
  int fd = clinux_packet_open();
  if (fd < 0) return fd;
  int result = clinux_attach_filter(fd, filter, length);
  if (result >= 0) result = clinux_packet_map(fd, BLOCK_SIZE, BLOCKS, RETIRE_MS, &mapping);
  if (result >= 0) result = clinux_packet_bind(fd);
  *memory = mapping;
  return result < 0 ? result : fd;
}

static int open_event_ring(struct floor *f) {
  uint16_t port = 53;
  struct conntrack_failure failure;
  f->event_ring = conntrack_ring_open(&port, 1, &failure);
  return f->event_ring == NULL ? -failure.code : conntrack_ring_attach(f->event_ring, f->events);
}

static void drain_event_ring(struct floor *f) {
  struct conntrack_ring_taking taking = {.records = f->records, .capacity = BATCH, .tally = &f->tally};
  taking.slots = conntrack_ring_slots(f->event_ring);
  do {
    taking.count = 0;
    conntrack_ring_take(f->event_ring, &taking);
    f->seen_events += taking.count;
  } while (taking.count > 0);
}

static void drain_events(struct floor *f) {
  int count;
  if (f->event_ring != NULL) drain_event_ring(f);
  do {
    count = recvmmsg(f->events, f->messages, BATCH, MSG_DONTWAIT, NULL);
    if (count > 0) f->seen_events += (uint64_t)count;
  } while (count == BATCH);
}

static void walk_ring(struct floor *f) {
  for (unsigned walked = 0; walked < BLOCKS; walked++) {
    uint8_t *block = f->memory + (size_t)f->next_block * BLOCK_SIZE;
    if (!clinux_block_is_owned(block)) return;
    uint32_t frames = clinux_block_frames(block);
    uint8_t *at = block + clinux_block_first(block);
    for (uint32_t number = 0; number < frames; number++) {
      struct clinux_frame frame = clinux_frame_read(at);
      f->stamps += (uint64_t)frame.stamp_ns;
      at += frame.next;
    }
    f->seen_packets += frames;
    clinux_block_release(block);
    f->next_block = (f->next_block + 1) % BLOCKS;
  }
}

static void report(struct floor *f) {
  uint32_t values[SK_MEMINFO_VARS] = {0};
  socklen_t length = sizeof values;
  struct clinux_packet_statistics statistics = {0};
  getsockopt(f->events, SOL_SOCKET, SO_MEMINFO, values, &length);
  clinux_packet_statistics(f->ring, &statistics);
  printf("events=%llu events_lost=%u packets=%llu packets_lost=%u sweeps=%llu stamps=%llu\n", (unsigned long long)f->seen_events,
         values[SK_MEMINFO_DROPS], (unsigned long long)f->seen_packets, statistics.drops, (unsigned long long)f->sweeps,
         (unsigned long long)f->stamps);
}

int bench_floor(const struct sock_filter *filter, uint16_t length, int has_ring) {
  static struct floor f;
  f.events = open_events();
  f.ring = open_ring(filter, length, &f.memory);
  int failure = f.events < 0 ? f.events : f.ring < 0 ? f.ring : has_ring ? open_event_ring(&f) : 0;
  if (failure < 0) {
    fprintf(stderr, "floor: %s\n", strerror(-failure));
    return 1;
  }
  for (unsigned index = 0; index < BATCH; index++) {
    f.vectors[index] = (struct iovec){.iov_base = f.datagrams[index], .iov_len = DATAGRAM};
    f.messages[index].msg_hdr = (struct msghdr){.msg_iov = &f.vectors[index], .msg_iovlen = 1};
  }
  stop_on_sigterm();
  puts("ready");
  fflush(stdout);
  // A negative descriptor is passed over.
  int event_ring = f.event_ring != NULL ? conntrack_ring_descriptor(f.event_ring) : -1;
  struct pollfd polled[3] = {
    {.fd = f.events, .events = POLLIN}, {.fd = f.ring, .events = POLLIN}, {.fd = event_ring, .events = POLLIN}};
  const struct timespec delay = {.tv_nsec = 10 * 1000 * 1000};
  while (!is_stopping) {
    if (poll(polled, 3, -1) < 0) continue;
    // What comes in meanwhile wakes nobody.
    nanosleep(&delay, NULL);
    drain_events(&f);
    walk_ring(&f);
    f.sweeps++;
  }
  drain_events(&f);
  walk_ring(&f);
  report(&f);
  return 0;
}
