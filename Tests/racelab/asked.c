/* What a client knows of its queries, and the lines that say it. */
#include "lab.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <time.h>

int udp_socket(const struct endpoint *local) {
  int fd = socket(local->address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  int on = 1;
  if (fd < 0) die("open a UDP socket");
  if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on)) die("ask for time stamps");
  if (bind(fd, (const struct sockaddr *)&local->address, local->length)) die("bind a UDP socket to port %u", endpoint_port(&local->address));
  return fd;
}

ssize_t receive_stamped(int fd, uint8_t *buffer, size_t capacity, struct sockaddr_storage *from, int64_t *stamp) {
  char control[128];
  struct iovec part = {.iov_base = buffer, .iov_len = capacity};
  struct msghdr message = {
      .msg_name = from, .msg_namelen = sizeof *from, .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
  if (length < 0) return -1;
  *stamp = now_realtime();
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
      struct timespec t;
      memcpy(&t, CMSG_DATA(c), sizeof t);
      *stamp = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
  return length;
}

void asked_take(struct asked *queries, int count, const uint8_t *bytes, size_t length, const struct sockaddr_storage *from, int64_t stamp) {
  char name[LAB_NAME_MAX];
  uint16_t id, type;
  bool response;
  size_t end;
  if (!dns_parse(bytes, length, &id, &response, name, &type, &end) || !response) return;
  struct asked *strayed = NULL;
  for (int i = 0; i < count; i++) {
    struct asked *query = &queries[i];
    if (query->id != id || query->type != type || strcasecmp(query->name, name)) continue;
    if (endpoint_same_address(from, &query->server.address) && endpoint_port(from) == endpoint_port(&query->server.address)) {
      if (!query->answered) query->answered = stamp;
      return;
    }
    if (!query->answered && !query->strayed && !strayed) strayed = query;
  }
  if (strayed) {
    strayed->strayed = stamp;
    strayed->stray = *from;
  }
}

void asked_print(const struct asked *query) {
  char client[INET6_ADDRSTRLEN], server[INET6_ADDRSTRLEN], from[INET6_ADDRSTRLEN], answered[24] = "-";
  if (!query->sent) return;
  if (query->answered) snprintf(answered, sizeof answered, "%" PRId64, query->answered);
  printf("query %s %u %u %s %s %s sent=%" PRId64 " answered=%s from=%s port=%u stray=%s\n", endpoint_address(&query->client, client),
         endpoint_port(&query->client), query->id, query->name, dns_type_name(query->type), endpoint_address(&query->server.address, server),
         query->sent, answered, query->answered ? server : query->refused ? "refused" : "-", endpoint_port(&query->server.address),
         query->strayed ? endpoint_address(&query->stray, from) : "-");
}
