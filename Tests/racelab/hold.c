/* A policy engine as network plugins have one: every packet of an NFQUEUE is held for a while and then accepted. Two first packets of one flow are then
 * under way at once, both without an entry in the table. Speaks nfnetlink_queue itself (include/uapi/linux/netfilter/nfnetlink_queue.h). */
#include "lab.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HELD_MAX 4096

struct held {
  uint32_t id; /* network order */
  int64_t due;
};

static volatile sig_atomic_t stopping;
static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

/* One message with one attribute to the queue. Dies on failure. */
static void tell(int fd, uint16_t queue, uint16_t type, uint16_t attribute, const void *payload, size_t length) {
  struct {
    struct nlmsghdr header;
    struct nfgenmsg family;
    struct nlattr attribute;
    uint8_t payload[32];
  } message = {.header = {.nlmsg_type = (uint16_t)(NFNL_SUBSYS_QUEUE << 8 | type), .nlmsg_flags = NLM_F_REQUEST},
               .family = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0, .res_id = htons(queue)},
               .attribute = {.nla_type = attribute, .nla_len = (uint16_t)(NLA_HDRLEN + length)}};
  memcpy(message.payload, payload, length);
  message.header.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof message.family) + NLA_HDRLEN + NLA_ALIGN(length));
  if (send(fd, &message, message.header.nlmsg_len, 0) < 0) die("tell the queue");
}

/* The id of the packet that a message announces; false if it announces none. */
static bool announced(const struct nlmsghdr *header, uint32_t *id) {
  if (header->nlmsg_type == NLMSG_ERROR) {
    const struct nlmsgerr *error = NLMSG_DATA(header);
    errno = -error->error;
    if (error->error) die("the queue");
    return false;
  }
  if (header->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET)) return false;
  const uint8_t *at = (const uint8_t *)NLMSG_DATA(header) + NLMSG_ALIGN(sizeof(struct nfgenmsg)), *end = (const uint8_t *)header + header->nlmsg_len;
  while (end - at >= NLA_HDRLEN) {
    const struct nlattr *attribute = (const struct nlattr *)(const void *)at;
    if (attribute->nla_len < NLA_HDRLEN || attribute->nla_len > end - at) break;
    if ((attribute->nla_type & NLA_TYPE_MASK) == NFQA_PACKET_HDR) {
      memcpy(id, at + NLA_HDRLEN, sizeof *id);
      return true;
    }
    at += NLA_ALIGN(attribute->nla_len);
  }
  return false;
}

int command_hold(int argc, char **argv) {
  int queue = 0, ms = 20;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--queue")) queue = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--ms")) ms = atoi(option_value(argc, argv, &i));
    else usage("racelab hold [--queue N] [--ms N]");
  }
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) die("open nfnetlink");
  struct nfqnl_msg_config_cmd bind_command = {.command = NFQNL_CFG_CMD_BIND};
  struct nfqnl_msg_config_params params = {.copy_mode = NFQNL_COPY_META};
  tell(fd, (uint16_t)queue, NFQNL_MSG_CONFIG, NFQA_CFG_CMD, &bind_command, sizeof bind_command);
  tell(fd, (uint16_t)queue, NFQNL_MSG_CONFIG, NFQA_CFG_PARAMS, &params, sizeof params);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  puts("ready");
  fflush(stdout);
  static struct held held[HELD_MAX];
  size_t first = 0, last = 0;
  struct pollfd polled = {.fd = fd, .events = POLLIN};
  while (!stopping) {
    int64_t now = now_monotonic();
    for (; first < last && held[first % HELD_MAX].due <= now; first++) {
      struct nfqnl_msg_verdict_hdr verdict = {.verdict = htonl(NF_ACCEPT), .id = held[first % HELD_MAX].id};
      tell(fd, (uint16_t)queue, NFQNL_MSG_VERDICT, NFQA_VERDICT_HDR, &verdict, sizeof verdict);
    }
    int timeout = first < last ? (int)((held[first % HELD_MAX].due - now) / 1000000) + 1 : -1;
    if (poll(&polled, 1, timeout) < 0 && errno != EINTR) die("poll");
    _Alignas(struct nlmsghdr) uint8_t bytes[65536];
    ssize_t length;
    while ((length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
      size_t left = (size_t)length;
      for (struct nlmsghdr *header = (struct nlmsghdr *)(void *)bytes; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
        uint32_t id;
        if (!announced(header, &id)) continue;
        if (last - first == HELD_MAX) die("too many packets held");
        held[last++ % HELD_MAX] = (struct held){.id = id, .due = now_monotonic() + (int64_t)ms * 1000000};
      }
    }
  }
  return 0;
}
