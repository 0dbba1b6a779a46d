#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "parse.h"

_Static_assert(CONNTRACK_SENT_CLASH_RESOLVE == 1 << CTA_STATS_CLASH_RESOLVE, "enum ctattr_stats_cpu");
_Static_assert(CONNTRACK_SENT_CHAIN_TOO_LONG == 1 << CTA_STATS_CHAIN_TOOLONG, "enum ctattr_stats_cpu");

// ctnetlink answers while the request is being sent or read; this is for a kernel that does not.
static const struct timeval answer_limit = {.tv_sec = 2};

struct conntrack_requests {
  int descriptor;
  uint32_t port_id;
  uint32_t sequence;
  bool done;
  // What of the buffer is filled, and where the next message starts.
  size_t length;
  size_t offset;
  struct conntrack_answer answer;
  // As long as the longest part of a dump that the kernel makes (netlink_dump, net/netlink/af_netlink.c: 32 KiB).
  _Alignas(8) char buffer[32768];
};

static int set_up(struct conntrack_requests *requests, const char **operation) {
  *operation = "socket NETLINK_NETFILTER";
  requests->descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (requests->descriptor < 0) return -errno;
  *operation = "SO_RCVTIMEO";
  if (setsockopt(requests->descriptor, SOL_SOCKET, SO_RCVTIMEO, &answer_limit, sizeof answer_limit) < 0) return -errno;
  *operation = "bind NETLINK_NETFILTER";
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  socklen_t length = sizeof address;
  if (bind(requests->descriptor, (struct sockaddr *)&address, length) < 0) return -errno;
  if (getsockname(requests->descriptor, (struct sockaddr *)&address, &length) < 0) return -errno;
  requests->port_id = address.nl_pid;
  requests->done = true;
  // Binding succeeds without ctnetlink and without CAP_NET_ADMIN; a question does not.
  *operation = "ask for the conntrack table size";
  uint32_t entries, limit;
  return conntrack_requests_table_size(requests, &entries, &limit);
}

struct conntrack_requests *conntrack_requests_open(struct conntrack_failure *failure) {
  struct conntrack_requests *requests = calloc(1, sizeof *requests);
  if (requests == NULL) {
    *failure = (struct conntrack_failure){.code = ENOMEM, .operation = "allocate request buffer"};
    return NULL;
  }
  int result = set_up(requests, &failure->operation);
  if (result < 0) {
    failure->code = -result;
    conntrack_requests_close(requests);
    return NULL;
  }
  return requests;
}

void conntrack_requests_close(struct conntrack_requests *requests) {
  if (requests->descriptor >= 0) close(requests->descriptor);
  free(requests);
}

int conntrack_requests_descriptor(const struct conntrack_requests *requests) { return requests->descriptor; }
const struct conntrack_answer *conntrack_requests_answer(const struct conntrack_requests *requests) { return &requests->answer; }

static int next_message(struct conntrack_requests *requests, const struct nlmsghdr **next);

static int ask(struct conntrack_requests *requests, uint16_t type, uint16_t flags) {
  // An answer that broke off is read to its end: while the kernel is in a dump, it answers EBUSY to the next.
  const struct nlmsghdr *leftover;
  while (!requests->done && next_message(requests, &leftover) > 0) {}

  _Alignas(8) char buffer[MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg)];
  struct nlmsghdr *message = mnl_nlmsg_put_header(buffer);
  message->nlmsg_type = (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | type);
  message->nlmsg_flags = NLM_F_REQUEST | flags;
  message->nlmsg_seq = ++requests->sequence;
  struct nfgenmsg *header = mnl_nlmsg_put_extra_header(message, sizeof *header);
  // One dump for IPv4 and IPv6: with a family the kernel walks the same table and skips.
  header->nfgen_family = AF_UNSPEC;
  header->version = NFNETLINK_V0;

  requests->done = true;
  requests->length = requests->offset = 0;
  requests->answer = (struct conntrack_answer){0};
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  ssize_t sent;
  do sent = sendto(requests->descriptor, message, message->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return -errno;
  requests->done = false;
  return 0;
}

static int receive(struct conntrack_requests *requests) {
  struct sockaddr_nl sender;
  struct iovec vector = {.iov_base = requests->buffer, .iov_len = sizeof requests->buffer};
  for (;;) {
    struct msghdr header = {.msg_name = &sender, .msg_namelen = sizeof sender, .msg_iov = &vector, .msg_iovlen = 1};
    ssize_t count = recvmsg(requests->descriptor, &header, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (header.msg_namelen != sizeof sender || sender.nl_pid != 0) {
      requests->answer.foreign++;
      continue;
    }
    if (header.msg_flags & MSG_TRUNC) requests->answer.interrupted = true;
    requests->length = (size_t)count;
    requests->offset = 0;
    return 0;
  }
}

// The error an NLMSG_ERROR or NLMSG_DONE carries: 0 or a negative errno.
static int carried_error(const struct nlmsghdr *message) {
  int error = 0;
  if (mnl_nlmsg_get_payload_len(message) >= sizeof error) memcpy(&error, mnl_nlmsg_get_payload(message), sizeof error);
  return error < 0 ? error : 0;
}

// 1 with the next message of the answer, 0 at its end, or -errno.
static int next_message(struct conntrack_requests *requests, const struct nlmsghdr **next) {
  while (!requests->done) {
    const struct nlmsghdr *message = (const struct nlmsghdr *)(requests->buffer + requests->offset);
    size_t left = requests->length - requests->offset;
    if (!mnl_nlmsg_ok(message, (int)left)) {
      if (left > 0) requests->answer.results[CONNTRACK_SHORT_MESSAGE]++;
      int result = receive(requests);
      if (result < 0) return result;
      continue;
    }
    size_t aligned = MNL_ALIGN((size_t)message->nlmsg_len);
    requests->offset += aligned < left ? aligned : left;
    if (message->nlmsg_seq != requests->sequence || message->nlmsg_pid != requests->port_id) {
      requests->answer.foreign++;
      continue;
    }
    if (message->nlmsg_flags & NLM_F_DUMP_INTR) requests->answer.interrupted = true;
    switch (message->nlmsg_type) {
      case NLMSG_NOOP:
        continue;
      case NLMSG_OVERRUN:
        requests->answer.interrupted = true;
        continue;
      case NLMSG_ERROR:
      case NLMSG_DONE:
        requests->done = true;
        return carried_error(message);
    }
    requests->answer.messages++;
    *next = message;
    return 1;
  }
  return 0;
}

int conntrack_requests_ask_table(struct conntrack_requests *requests) { return ask(requests, IPCTNL_MSG_CT_GET, NLM_F_DUMP); }

int conntrack_requests_next_entries(
  struct conntrack_requests *requests, const uint16_t *ports, size_t count, struct conntrack_record *records, size_t capacity) {
  size_t written = 0;
  while (written < capacity) {
    const struct nlmsghdr *message;
    int result = next_message(requests, &message);
    if (result < 0) return result;
    if (result == 0) break;
    size_t length;
    int parsed = conntrack_parse(message, message->nlmsg_len, &records[written], &length);
    requests->answer.results[parsed]++;
    if (parsed == CONNTRACK_PARSED && conntrack_record_has_port(&records[written], ports, count)) written++;
  }
  return (int)written;
}

int conntrack_requests_ask_cpu_stats(struct conntrack_requests *requests) {
  return ask(requests, IPCTNL_MSG_CT_GET_STATS_CPU, NLM_F_DUMP);
}

static uint32_t *counter(struct conntrack_cpu_stats *stats, int type) {
  switch (type) {
    case CTA_STATS_FOUND: return &stats->found;
    case CTA_STATS_INVALID: return &stats->invalid;
    case CTA_STATS_INSERT: return &stats->insert;
    case CTA_STATS_INSERT_FAILED: return &stats->insert_failed;
    case CTA_STATS_DROP: return &stats->drop;
    case CTA_STATS_EARLY_DROP: return &stats->early_drop;
    case CTA_STATS_ERROR: return &stats->error;
    case CTA_STATS_SEARCH_RESTART: return &stats->search_restart;
    case CTA_STATS_CLASH_RESOLVE: return &stats->clash_resolve;
    case CTA_STATS_CHAIN_TOOLONG: return &stats->chain_too_long;
    default: return NULL;
  }
}

static int payload(const struct nlmsghdr *message, uint16_t type, struct conntrack_attributes *cursor) {
  if (message->nlmsg_type != (NFNL_SUBSYS_CTNETLINK << 8 | type)) return CONNTRACK_OTHER_TYPE;
  if (mnl_nlmsg_get_payload_len(message) < sizeof(struct nfgenmsg)) return CONNTRACK_SHORT_MESSAGE;
  conntrack_attributes_begin(
    cursor, mnl_nlmsg_get_payload_offset(message, sizeof(struct nfgenmsg)), mnl_nlmsg_get_payload_len(message) - sizeof(struct nfgenmsg));
  return CONNTRACK_PARSED;
}

static int parse_cpu_stats(const struct nlmsghdr *message, struct conntrack_cpu_stats *stats) {
  struct conntrack_attributes cursor;
  int result = payload(message, IPCTNL_MSG_CT_GET_STATS_CPU, &cursor);
  if (result != CONNTRACK_PARSED) return result;
  const struct nfgenmsg *header = mnl_nlmsg_get_payload(message);
  *stats = (struct conntrack_cpu_stats){.cpu = ntohs(header->res_id)};
  const struct nlattr *attribute;
  while (conntrack_attributes_next(&cursor, &attribute)) {
    int type = mnl_attr_get_type(attribute);
    if (type > CTA_STATS_CHAIN_TOOLONG) {
      stats->unknown++;
      continue;
    }
    if (mnl_attr_validate(attribute, MNL_TYPE_U32) < 0) return CONNTRACK_BAD_ATTRIBUTE;
    stats->sent |= 1u << type;
    uint32_t *value = counter(stats, type);
    if (value != NULL) *value = ntohl(mnl_attr_get_u32(attribute));
  }
  return conntrack_attributes_whole(&cursor) ? CONNTRACK_PARSED : CONNTRACK_BAD_ATTRIBUTE;
}

int conntrack_requests_next_cpu_stats(struct conntrack_requests *requests, struct conntrack_cpu_stats *stats, size_t capacity) {
  size_t written = 0;
  while (written < capacity) {
    const struct nlmsghdr *message;
    int result = next_message(requests, &message);
    if (result < 0) return result;
    if (result == 0) break;
    int parsed = parse_cpu_stats(message, &stats[written]);
    requests->answer.results[parsed]++;
    if (parsed == CONNTRACK_PARSED) written++;
  }
  return (int)written;
}

int conntrack_requests_table_size(struct conntrack_requests *requests, uint32_t *entries, uint32_t *limit) {
  *entries = *limit = 0;
  int result = ask(requests, IPCTNL_MSG_CT_GET_STATS, 0);
  if (result < 0) return result;
  const struct nlmsghdr *message;
  result = next_message(requests, &message);
  // One message is the whole answer: it says NLM_F_MULTI, and no NLMSG_DONE follows (ctnetlink_stat_ct_fill_info).
  requests->done = true;
  if (result < 0) return result;
  struct conntrack_attributes cursor;
  if (result == 0 || payload(message, IPCTNL_MSG_CT_GET_STATS, &cursor) != CONNTRACK_PARSED) return -EBADMSG;
  const struct nlattr *attribute;
  while (conntrack_attributes_next(&cursor, &attribute)) {
    int type = mnl_attr_get_type(attribute);
    if (type != CTA_STATS_GLOBAL_ENTRIES && type != CTA_STATS_GLOBAL_MAX_ENTRIES) continue;
    if (mnl_attr_validate(attribute, MNL_TYPE_U32) < 0) return -EBADMSG;
    *(type == CTA_STATS_GLOBAL_ENTRIES ? entries : limit) = ntohl(mnl_attr_get_u32(attribute));
  }
  return 0;
}
