/* The ordinary client: one lookup every so often, each from a fresh port, never two queries in flight on two CPUs. */
#include "lab.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPES_MAX 4

/* What is peculiar to a client's queries. */
struct manner {
  bool edns, mixed_case, bad_checksum;
  int fixed_id, from_port, retry_ms;
};
static struct manner manner = {.fixed_id = -1};

/* A lookup asks its types one after the other, the next when the last is answered, or all at once. */
struct lookup {
  int fd;
  int asked;
  int64_t last_sent; /* monotonic */
  bool retried;
  struct asked queries[TYPES_MAX];
};

/* The datagram with a checksum that does not fit: what conntrack calls invalid (net/netfilter/nf_conntrack_proto_udp.c, udp_error). */
static ssize_t send_raw(const struct asked *query, const uint8_t *payload, size_t length) {
  uint8_t packet[48 + LAB_PACKET_MAX] = {0};
  int family = query->client.ss_family;
  size_t header = family == AF_INET ? 20 : 40;
  struct endpoint to = query->server;
  uint16_t udp[] = {htons(endpoint_port(&query->client)), htons(endpoint_port(&to.address)), htons((uint16_t)(8 + length)), htons(0x1234)};
  if (family == AF_INET) {
    memcpy(packet, (uint8_t[]){0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, IPPROTO_UDP}, 10);
    memcpy(packet + 12, &((const struct sockaddr_in *)&query->client)->sin_addr, 4);
    memcpy(packet + 16, &((const struct sockaddr_in *)&to.address)->sin_addr, 4);
  } else {
    memcpy(packet, (uint8_t[]){0x60, 0, 0, 0, (uint8_t)((8 + length) >> 8), (uint8_t)(8 + length), IPPROTO_UDP, 64}, 8);
    memcpy(packet + 8, &((const struct sockaddr_in6 *)&query->client)->sin6_addr, 16);
    memcpy(packet + 24, &((const struct sockaddr_in6 *)&to.address)->sin6_addr, 16);
  }
  memcpy(packet + header, udp, 8);
  memcpy(packet + header + 8, payload, length);
  endpoint_set_port(&to.address, 0); /* raw(7): of IPv6 it would be the protocol */
  int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  if (fd < 0) die("open a raw socket");
  ssize_t sent = sendto(fd, packet, header + 8 + length, 0, (const struct sockaddr *)&to.address, to.length);
  close(fd);
  return sent;
}

static void send_query(struct asked *query) {
  uint8_t bytes[LAB_PACKET_MAX];
  size_t length = dns_query(bytes, query->id, query->name, query->type);
  if (manner.mixed_case)
    for (size_t at = 13; at + 5 < length; at += 2)
      if (bytes[at] >= 'a' && bytes[at] <= 'z') bytes[at] ^= 0x20;
  if (manner.edns) length = dns_add_edns(bytes, length);
  query->sent = query->sent ? query->sent : now_realtime();
  ssize_t sent = manner.bad_checksum ? send_raw(query, bytes, length)
                                     : sendto(query->fd, bytes, length, 0, (struct sockaddr *)&query->server.address, query->server.length);
  if (sent < 0) query->sent = 0;
}

static void ask_next(struct lookup *lookup) {
  struct asked *query = &lookup->queries[lookup->asked++];
  query->fd = lookup->fd;
  lookup->last_sent = now_monotonic();
  send_query(query);
}

static void drain(struct lookup *lookup, int types) {
  uint8_t bytes[LAB_PACKET_MAX];
  struct sockaddr_storage from;
  int64_t stamp;
  ssize_t length;
  while ((length = receive_stamped(lookup->fd, bytes, sizeof bytes, &from, &stamp)) >= 0)
    asked_take(lookup->queries, lookup->asked, bytes, (size_t)length, &from, stamp);
  while (lookup->asked < types && lookup->queries[lookup->asked - 1].answered) ask_next(lookup);
}

/* Sends what is not answered once more, from the same port. */
static void retry(struct lookup *lookup) {
  if (!manner.retry_ms || lookup->retried || now_monotonic() - lookup->last_sent < (int64_t)manner.retry_ms * 1000000) return;
  lookup->retried = true;
  for (int k = 0; k < lookup->asked; k++)
    if (!lookup->queries[k].answered) send_query(&lookup->queries[k]);
}

static bool finished(const struct lookup *lookup, int types, int64_t timeout) {
  if (now_monotonic() - lookup->last_sent > timeout) return true;
  if (lookup->asked < types) return false;
  for (int k = 0; k < types; k++)
    if (!lookup->queries[k].answered) return false;
  return true;
}

static const char *help =
    "racelab ask --from ADDR --server ADDR [--port 53] [--netns NAME] [--count N] [--rate PER_SECOND] [--types A,AAAA] [--together]\n"
    "            [--timeout-ms N] [--label TEXT] [--edns] [--mixed-case] [--bad-checksum] [--id N] [--from-port N] [--retry-ms N]";

int command_ask(int argc, char **argv) {
  const char *from = NULL, *server = NULL, *label = "ask", *netns = NULL;
  int count = 100, rate = 200, timeout_ms = 3000, type_count = 2, port = 53;
  uint16_t types[TYPES_MAX] = {LAB_TYPE_A, LAB_TYPE_AAAA};
  bool together = false;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--from")) from = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--server")) server = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--port")) port = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--netns")) netns = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--count")) count = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--rate")) rate = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--timeout-ms")) timeout_ms = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--label")) label = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--together")) together = true;
    else if (!strcmp(argv[i], "--edns")) manner.edns = true;
    else if (!strcmp(argv[i], "--mixed-case")) manner.mixed_case = true;
    else if (!strcmp(argv[i], "--bad-checksum")) manner.bad_checksum = true;
    else if (!strcmp(argv[i], "--id")) manner.fixed_id = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--from-port")) manner.from_port = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--retry-ms")) manner.retry_ms = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--types")) {
      char *names[TYPES_MAX];
      type_count = split(option_value(argc, argv, &i), names, TYPES_MAX);
      for (int k = 0; k < type_count; k++) types[k] = dns_type_parse(names[k]);
    } else usage(help);
  }
  struct endpoint local, remote;
  if (!from || !server || !endpoint_parse(from, (uint16_t)manner.from_port, &local) || !endpoint_parse(server, (uint16_t)port, &remote)) usage(help);
  if (count < 1 || rate < 1 || type_count < 1) usage(help);
  if (netns) enter_netns(netns);
  raise_descriptor_limit();
  struct lookup *lookups = calloc((size_t)count, sizeof *lookups);
  struct pollfd *polled = calloc((size_t)count, sizeof *polled);
  if (!lookups || !polled) die("remember the lookups");
  int64_t start = now_monotonic(), timeout = (int64_t)timeout_ms * 1000000, step = 1000000000 / rate;
  int begun = 0, open = 0;
  while (begun < count || open) {
    int64_t now = now_monotonic();
    for (; begun < count && start + begun * step <= now && (!manner.from_port || !open); begun++, open++) {
      struct lookup *lookup = &lookups[begun];
      lookup->fd = udp_socket(&local);
      for (int k = 0; k < type_count; k++) {
        struct asked *query = &lookup->queries[k];
        socklen_t length = sizeof query->client;
        getsockname(lookup->fd, (struct sockaddr *)&query->client, &length);
        query->server = remote;
        query->type = types[k];
        query->id = manner.fixed_id >= 0 ? (uint16_t)manner.fixed_id : (uint16_t)((begun * type_count + k) * 25717u + 777u);
        snprintf(query->name, sizeof query->name, "q%d.%s.ask.test", begun, label);
      }
      ask_next(lookup);
      while (together && lookup->asked < type_count) ask_next(lookup);
    }
    int watching = 0;
    for (int i = 0; i < begun; i++)
      if (lookups[i].fd >= 0) polled[watching++] = (struct pollfd){.fd = lookups[i].fd, .events = POLLIN};
    int64_t due = begun < count ? start + begun * step - now_monotonic() : 20000000;
    poll(polled, (nfds_t)watching, due <= 0 ? 0 : (int)(due / 1000000) + 1);
    for (int i = 0; i < begun; i++) {
      if (lookups[i].fd < 0) continue;
      drain(&lookups[i], type_count);
      retry(&lookups[i]);
      if (!finished(&lookups[i], type_count, timeout)) continue;
      close(lookups[i].fd);
      lookups[i].fd = -1;
      open--;
    }
  }
  int sent = 0, answered = 0, strayed = 0;
  for (int i = 0; i < count; i++)
    for (int k = 0; k < type_count; k++) {
      struct asked *query = &lookups[i].queries[k];
      sent += query->sent != 0;
      answered += query->answered != 0;
      strayed += query->strayed != 0;
      asked_print(query);
    }
  printf("summary sent=%d answered=%d strayed=%d\n", sent, answered, strayed);
  return 0;
}
