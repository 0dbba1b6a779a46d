#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/sock_diag.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "CConntrack.h"

// An event is 150 to 400 bytes; a security context or labels add to that. What is longer is counted as short, not parsed.
// The odd line more keeps datagrams of a batch from all starting in the same set of the processor's cache.
enum { DATAGRAM_SIZE = 4096, DATAGRAM_STRIDE = DATAGRAM_SIZE + 64 * 5 };

struct conntrack_events {
  int descriptor;
  bool forced;
  // Datagrams of the last recvmmsg, the one being parsed, and where in it.
  unsigned received;
  unsigned current;
  size_t offset;
  // The last recvmmsg emptied the queue.
  bool emptied;
  // Where most events come from; NULL: the socket brings all.
  struct conntrack_ring *ring;
  // What is left of the ring as it was when this round began.
  size_t slots;
  bool in_round;
  // The ring's next message was still being written when the last round came to it.
  bool is_held_up;
  // What the socket answered after records were taken from the ring: told by the next call.
  int pending_error;
  uint16_t ports[CONNTRACK_PORTS_MAX];
  size_t port_count;
  struct conntrack_tally tally;
  struct mmsghdr messages[CONNTRACK_BATCH];
  struct iovec vectors[CONNTRACK_BATCH];
  struct sockaddr_nl senders[CONNTRACK_BATCH];
  _Alignas(8) char datagrams[CONNTRACK_BATCH][DATAGRAM_STRIDE];
};

static int set_receive_buffer(struct conntrack_events *events, int size) {
  events->forced = setsockopt(events->descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == 0;
  if (events->forced) return 0;
  return setsockopt(events->descriptor, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

static int set_up(struct conntrack_events *events, const uint16_t *ports, size_t count, int receive_buffer, const char **operation) {
  *operation = "socket NETLINK_NETFILTER";
  events->descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  if (events->descriptor < 0) return -errno;
  *operation = "SO_RCVBUF";
  if (set_receive_buffer(events, receive_buffer) < 0) return -errno;
  *operation = "NETLINK_NO_ENOBUFS";
  int on = 1;
  if (setsockopt(events->descriptor, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof on) < 0) return -errno;
  *operation = "SO_MEMINFO";
  int64_t drops = conntrack_events_drops(events);
  if (drops < 0) return (int)drops;
  // The filter goes on before the groups: a message queued in between would have passed unfiltered.
  *operation = "SO_ATTACH_FILTER";
  int result = conntrack_attach_filter(events->descriptor, ports, count);
  if (result < 0) return result;
  *operation = "bind to conntrack event groups";
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  address.nl_groups = 1u << (NFNLGRP_CONNTRACK_NEW - 1) | 1u << (NFNLGRP_CONNTRACK_UPDATE - 1) | 1u << (NFNLGRP_CONNTRACK_DESTROY - 1);
  return bind(events->descriptor, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

struct conntrack_events *conntrack_events_open(
  const uint16_t *ports, size_t count, int receive_buffer, struct conntrack_failure *failure) {
  struct conntrack_events *events = calloc(1, sizeof *events);
  if (events == NULL) {
    *failure = (struct conntrack_failure){.code = ENOMEM, .operation = "allocate event buffers"};
    return NULL;
  }
  int result = set_up(events, ports, count, receive_buffer, &failure->operation);
  if (result < 0) {
    failure->code = -result;
    conntrack_events_close(events);
    return NULL;
  }
  memcpy(events->ports, ports, count * sizeof *ports);
  events->port_count = count;
  for (unsigned index = 0; index < CONNTRACK_BATCH; index++) {
    events->vectors[index] = (struct iovec){.iov_base = events->datagrams[index], .iov_len = DATAGRAM_SIZE};
    events->messages[index].msg_hdr = (struct msghdr){
      .msg_name = &events->senders[index], .msg_iov = &events->vectors[index], .msg_iovlen = 1};
  }
  return events;
}

void conntrack_events_close(struct conntrack_events *events) {
  if (events->descriptor >= 0) close(events->descriptor);
  free(events);
}

int conntrack_events_use_ring(struct conntrack_events *events, struct conntrack_ring *ring) {
  // What a former socket left in it is too old to be told from now.
  conntrack_ring_discard(ring);
  int result = conntrack_ring_set_ports(ring, events->ports, events->port_count);
  if (result == 0) result = conntrack_ring_attach(ring, events->descriptor);
  if (result == 0) events->ring = ring;
  return result;
}

int conntrack_events_set_ports(struct conntrack_events *events, const uint16_t *ports, size_t count) {
  int result = events->ring != NULL ? conntrack_ring_set_ports(events->ring, ports, count)
                                    : conntrack_attach_filter(events->descriptor, ports, count);
  if (result < 0) return result;
  memcpy(events->ports, ports, count * sizeof *ports);
  events->port_count = count;
  return 0;
}

int conntrack_events_descriptor(const struct conntrack_events *events) { return events->descriptor; }

int conntrack_events_receive_buffer(const struct conntrack_events *events, bool *forced) {
  int size = 0;
  socklen_t length = sizeof size;
  *forced = events->forced;
  return getsockopt(events->descriptor, SOL_SOCKET, SO_RCVBUF, &size, &length) < 0 ? 0 : size;
}

// 0, or -errno. An empty queue is no error.
static int receive(struct conntrack_events *events) {
  for (unsigned index = 0; index < CONNTRACK_BATCH; index++) events->messages[index].msg_hdr.msg_namelen = sizeof events->senders[index];
  int count;
  do count = recvmmsg(events->descriptor, events->messages, CONNTRACK_BATCH, MSG_DONTWAIT, NULL);
  while (count < 0 && (errno == EINTR || errno == ENOBUFS));
  events->current = 0;
  events->offset = 0;
  events->received = count > 0 ? (unsigned)count : 0;
  // Fewer than asked for means that the queue ran empty: the next call would only answer EAGAIN.
  events->emptied = count < CONNTRACK_BATCH;
  return count < 0 && errno != EAGAIN ? -errno : 0;
}

static size_t take_from_ring(struct conntrack_events *events, struct conntrack_record *records, size_t capacity, size_t *budget) {
  // Messages left to the socket for want of room are younger than what filled the ring, and older than what finds room while it is read.
  if (!events->in_round) events->slots = conntrack_ring_slots(events->ring);
  events->in_round = true;
  struct conntrack_ring_taking taking = {.records = records, .capacity = capacity, .tally = &events->tally};
  size_t slots = taking.slots = events->slots < *budget ? events->slots : *budget;
  conntrack_ring_take(events->ring, &taking);
  // One that is still being written waits for the next round, and those behind it; so does the socket, whose messages are younger.
  events->is_held_up = taking.slots > 0 && taking.count < capacity;
  *budget -= slots - taking.slots;
  events->slots = events->is_held_up ? 0 : events->slots - (slots - taking.slots);
  return taking.count;
}

// The program left it to the socket and could not tell.
static bool is_unwanted(const struct conntrack_events *events, const struct conntrack_record *record) {
  return events->ring != NULL && !conntrack_is_wanted(record, events->ports, events->port_count);
}

int conntrack_events_next(
  struct conntrack_events *events, struct conntrack_record *records, size_t capacity, size_t *budget, bool *drained) {
  size_t count = 0;
  *drained = false;
  if (events->pending_error < 0) {
    int result = events->pending_error;
    events->pending_error = 0;
    return result;
  }
  if (events->ring != NULL) {
    count = take_from_ring(events, records, capacity, budget);
    if (events->is_held_up) {
      events->in_round = false;
      *drained = true;
      return (int)count;
    }
    if (events->slots > 0) return (int)count;
  }
  while (count < capacity && *budget > 0) {
    if (events->current == events->received) {
      if (events->received > 0 && events->emptied) {
        events->received = events->current = 0;
        *drained = true;
        break;
      }
      int result = receive(events);
      if (result < 0) {
        events->in_round = false;
        if (count == 0) return result;
        events->pending_error = result;
        break;
      }
      if (events->received == 0) {
        *drained = true;
        break;
      }
    }
    const struct mmsghdr *datagram = &events->messages[events->current];
    if (events->offset == 0 && events->senders[events->current].nl_pid != 0) {
      events->tally.foreign++;
      events->current++;
      (*budget)--;
      continue;
    }
    int result = CONNTRACK_SHORT_MESSAGE;
    size_t length = datagram->msg_len - events->offset;
    size_t taken = length;
    if (!(datagram->msg_hdr.msg_flags & MSG_TRUNC))
      result = conntrack_parse(events->datagrams[events->current] + events->offset, length, &records[count], &taken);
    events->tally.messages++;
    events->tally.results[result]++;
    (*budget)--;
    if (result == CONNTRACK_PARSED && !is_unwanted(events, &records[count])) count++;
    events->offset += taken;
    if (events->offset >= datagram->msg_len) {
      events->current++;
      events->offset = 0;
    }
  }
  events->in_round = events->in_round && !*drained;
  return (int)count;
}

bool conntrack_events_is_held_up(const struct conntrack_events *events) { return events->is_held_up; }

bool conntrack_events_has_more(const struct conntrack_events *events) {
  if (events->ring == NULL) return false;
  // Who writes into the ring looks, after that, how far it was read; here it is the other way round. Without the fence both may see the other's past.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  return conntrack_ring_slots(events->ring) > 0;
}

int64_t conntrack_events_drops(const struct conntrack_events *events) {
  uint32_t values[SK_MEMINFO_VARS];
  socklen_t length = sizeof values;
  if (getsockopt(events->descriptor, SOL_SOCKET, SO_MEMINFO, values, &length) < 0) return -errno;
  return length > SK_MEMINFO_DROPS * sizeof values[0] ? values[SK_MEMINFO_DROPS] : -ENOPROTOOPT;
}

const struct conntrack_tally *conntrack_events_tally(const struct conntrack_events *events) { return &events->tally; }

int64_t conntrack_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

const char *conntrack_error_text(int code) {
  const char *text = strerrordesc_np(code);
  return text != NULL ? text : "unknown error";
}
