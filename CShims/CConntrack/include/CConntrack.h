#pragma once
/// ctnetlink over libmnl and libnetfilter_conntrack: filtered events, unfiltered requests, both as plain records in arrays of the caller.
/// Nothing here allocates after a socket is open, and nothing decides: what a record means is the caller's business.
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  /// Ports that one filter can hold.
  CONNTRACK_PORTS_MAX = 16,
  /// Instructions of the longest filter; below 256, because a jump reaches that far.
  CONNTRACK_FILTER_MAX = 160,
  /// Datagrams read by one recvmmsg, and the useful size of a record array.
  CONNTRACK_BATCH = 64,
};

/// `conntrack_record.kind`.
enum {
  CONNTRACK_NEW = 0,
  CONNTRACK_UPDATE = 1,
  CONNTRACK_DESTROY = 2,
};

/// What the parser answers: why a message is not a record.
enum {
  CONNTRACK_PARSED = 0,
  /// The headers do not fit, or the message or its datagram is longer than what was received.
  CONNTRACK_SHORT_MESSAGE = 1,
  /// Not IPCTNL_MSG_CT_NEW or _DELETE of NFNL_SUBSYS_CTNETLINK.
  CONNTRACK_OTHER_TYPE = 2,
  /// An attribute runs over the end of what holds it, or is too short for its type.
  CONNTRACK_BAD_ATTRIBUTE = 3,
  /// No original or no reply tuple, or one without both addresses of one family and the protocol.
  CONNTRACK_NO_TUPLE = 4,
  CONNTRACK_RESULTS = 5,
};

/// One direction of an entry, in host order. IPv4 is v4-mapped (RFC 4291 2.5.5.2). Ports are 0 where the protocol has none.
struct conntrack_tuple {
  uint64_t source_high;
  uint64_t source_low;
  uint64_t destination_high;
  uint64_t destination_low;
  uint16_t source_port;
  uint16_t destination_port;
  uint8_t protocol;
};

/// One ctnetlink message about an entry; absent attributes are 0.
struct conntrack_record {
  struct conntrack_tuple original;
  struct conntrack_tuple reply;
  /// CTA_TIMESTAMP_START and _STOP, nanoseconds of CLOCK_REALTIME.
  uint64_t start;
  uint64_t stop;
  uint32_t status;
  uint32_t id;
  uint32_t mark;
  uint16_t zone;
  uint8_t kind;
};

/// Where opening stopped. `operation` is a constant string.
struct conntrack_failure {
  int code;
  const char *operation;
};

/// Parses the one netlink message at the start of `bytes` (4-byte aligned) and says how long it is.
///
/// - Parameter message_length: set to the aligned length of the message, or to `length` where that cannot be known.
/// - Returns: CONNTRACK_PARSED, or the reason why `record` holds nothing of use.
int conntrack_parse(const void *bytes, size_t length, struct conntrack_record *record, size_t *message_length);

/// The entry in a message as conntrack(8) prints it, by libnetfilter_conntrack: another parser than `conntrack_parse`. Allocates: not for events.
///
/// - Returns: the length of the text, or 0 if the library does not understand the message.
size_t conntrack_text(const void *message, char *text, size_t capacity);

/// True if the entry is UDP or TCP and one of its four ports is in the list: what the kernel filter asks of ports.
bool conntrack_record_has_port(const struct conntrack_record *record, const uint16_t *ports, size_t count);

/// What the kernel filter asks of a message that was parsed, by the record that it gave.
bool conntrack_is_wanted(const struct conntrack_record *record, const uint16_t *ports, size_t count);

/// Writes the event filter (classic BPF) for these ports (host order).
///
/// - Parameter code: CONNTRACK_FILTER_MAX instructions.
/// - Returns: the number of instructions, or 0 if there are more than CONNTRACK_PORTS_MAX ports.
size_t conntrack_filter(const uint16_t *ports, size_t count, struct sock_filter *code);

/// Puts the event filter for these ports on a socket, in one step in place of the one it has. 0 or -errno.
int conntrack_attach_filter(int descriptor, const uint16_t *ports, size_t count);

/// What an event socket counted since it was opened.
struct conntrack_tally {
  /// Netlink messages read from the kernel, good or not.
  uint64_t messages;
  /// Datagrams that came through the socket and that the kernel did not send (nl_pid is not 0), ignored.
  uint64_t foreign;
  /// Messages by what the parser answered (index: CONNTRACK_PARSED and its siblings).
  uint64_t results[CONNTRACK_RESULTS];
};

struct conntrack_events;

/// An eBPF program that stands in for the event filter of a socket and writes what it lets through into memory that both sides see (Linux 5.8). Needs
/// CAP_BPF or CAP_SYS_ADMIN while it is opened and nothing afterwards. One ring serves one socket at a time, and must outlive it. Who sent a message (nl_pid) a
/// filter does not see: what comes by a ring is not looked at for that.
struct conntrack_ring;

/// NULL with `failure` set.
struct conntrack_ring *conntrack_ring_open(const uint16_t *ports, size_t count, struct conntrack_failure *failure);
void conntrack_ring_close(struct conntrack_ring *ring);
/// For epoll, EPOLLIN.
int conntrack_ring_descriptor(const struct conntrack_ring *ring);
/// Puts the program on a socket, in one step in place of the filter that it has. 0 or -errno.
int conntrack_ring_attach(const struct conntrack_ring *ring, int descriptor);
/// Replaces the ports; one that stays is never out of the list. 0 or -E2BIG.
int conntrack_ring_set_ports(struct conntrack_ring *ring, const uint16_t *ports, size_t count);
/// Messages that wait in the ring.
size_t conntrack_ring_slots(const struct conntrack_ring *ring);
/// Messages that the program left to the socket: longer than a slot, of a form that it does not know, or without room in the ring. What of it is
/// wanted it could not tell (`conntrack_is_wanted`).
uint64_t conntrack_ring_left(const struct conntrack_ring *ring);

/// Where messages of a ring are taken to.
struct conntrack_ring_taking {
  struct conntrack_record *records;
  size_t capacity;
  /// Records so far.
  size_t count;
  /// Messages that are still to be looked at, good or not; at most `conntrack_ring_slots`.
  size_t slots;
  struct conntrack_tally *tally;
};

/// Takes all that waits and drops it, as far as it is written.
void conntrack_ring_discard(struct conntrack_ring *ring);

/// Takes messages until the array is full, none is to be looked at any more, or the next one is still being written.
void conntrack_ring_take(struct conntrack_ring *ring, struct conntrack_ring_taking *taking);

/// Opens a filtered, non-blocking event socket in the calling thread's network namespace. NULL with `failure` set.
///
/// - Parameter receive_buffer: bytes to ask for; the kernel grants twice that.
struct conntrack_events *conntrack_events_open(
  const uint16_t *ports, size_t count, int receive_buffer, struct conntrack_failure *failure);
void conntrack_events_close(struct conntrack_events *events);

/// True if a message in the ring was still being written when the last call came to it: it and all behind it, and what the socket has, wait for the next call.
bool conntrack_events_is_held_up(const struct conntrack_events *events);
/// True if the ring holds more than the last call saw. Nobody is woken for that: ask after a call that said `drained`, and call again.
bool conntrack_events_has_more(const struct conntrack_events *events);

/// From now on the ring brings the socket's events, and the socket what the ring does not take. 0 or -errno; then all is as before.
int conntrack_events_use_ring(struct conntrack_events *events, struct conntrack_ring *ring);
/// Replaces the ports in one step, in the filter or in the ring. 0 or -errno.
int conntrack_events_set_ports(struct conntrack_events *events, const uint16_t *ports, size_t count);
int conntrack_events_descriptor(const struct conntrack_events *events);

/// Bytes the kernel granted, and whether beyond net.core.rmem_max (SO_RCVBUFFORCE).
int conntrack_events_receive_buffer(const struct conntrack_events *events, bool *forced);

/// Reads on until the array is full, ring and queue are empty or `budget` messages were looked at. In order, as far as one of the two can be in order: the ring
/// as far as it was filled when the round began, then the socket.
///
/// - Parameter budget: lessened by every message looked at, good or not.
/// - Parameter drained: set to true if nothing was left of what was there when the round began, or it is held up; false otherwise.
/// - Returns: the number of records written, or -errno.
int conntrack_events_next(
  struct conntrack_events *events, struct conntrack_record *records, size_t capacity, size_t *budget, bool *drained);

/// Messages that did not fit into the receive buffer, modulo 2^32 (SO_MEMINFO, SK_MEMINFO_DROPS), or -errno.
int64_t conntrack_events_drops(const struct conntrack_events *events);
const struct conntrack_tally *conntrack_events_tally(const struct conntrack_events *events);

/// One CPU's statistics as the kernel keeps them: 32 bits that wrap (`enum ctattr_stats_cpu`).
struct conntrack_cpu_stats {
  uint32_t found;
  uint32_t invalid;
  uint32_t insert;
  uint32_t insert_failed;
  uint32_t drop;
  uint32_t early_drop;
  uint32_t error;
  uint32_t search_restart;
  uint32_t clash_resolve;
  uint32_t chain_too_long;
  /// Bit n is set if attribute n was sent.
  uint32_t sent;
  uint16_t cpu;
  /// Attributes that are newer than this program.
  uint16_t unknown;
};

enum {
  CONNTRACK_SENT_CLASH_RESOLVE = 1 << 14,
  CONNTRACK_SENT_CHAIN_TOO_LONG = 1 << 15,
};

/// What is known about the answer that is being read.
struct conntrack_answer {
  /// Messages that belong to it.
  uint64_t messages;
  /// Messages that were not sent by the kernel, or belong to an earlier request.
  uint64_t foreign;
  /// Messages by what the parser answered.
  uint64_t results[CONNTRACK_RESULTS];
  /// The table changed under the dump (NLM_F_DUMP_INTR), or a part of the answer did not fit: ask again.
  bool interrupted;
};

struct conntrack_requests;

/// Opens a socket for requests in the calling thread's network namespace and asks a first question on it. NULL with `failure` set.
struct conntrack_requests *conntrack_requests_open(struct conntrack_failure *failure);
void conntrack_requests_close(struct conntrack_requests *requests);
int conntrack_requests_descriptor(const struct conntrack_requests *requests);

/// Asks for the whole table, IPv4 and IPv6. 0 or -errno.
int conntrack_requests_ask_table(struct conntrack_requests *requests);
/// The next entries that have one of the ports. The number of records, 0 at the end, or -errno.
int conntrack_requests_next_entries(
  struct conntrack_requests *requests, const uint16_t *ports, size_t count, struct conntrack_record *records, size_t capacity);

/// Asks for the statistics of every possible CPU. 0 or -errno.
int conntrack_requests_ask_cpu_stats(struct conntrack_requests *requests);
/// The next CPUs. The number of readings, 0 at the end, or -errno.
int conntrack_requests_next_cpu_stats(struct conntrack_requests *requests, struct conntrack_cpu_stats *stats, size_t capacity);

/// CTA_STATS_GLOBAL_ENTRIES and _MAX_ENTRIES, 0 where not sent. 0 or -errno.
int conntrack_requests_table_size(struct conntrack_requests *requests, uint32_t *entries, uint32_t *limit);

const struct conntrack_answer *conntrack_requests_answer(const struct conntrack_requests *requests);

/// Nanoseconds of CLOCK_MONOTONIC.
int64_t conntrack_now(void);

/// The C library's text for an errno, in English; a constant string.
const char *conntrack_error_text(int code);
