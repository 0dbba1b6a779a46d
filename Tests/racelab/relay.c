/* A forwarding DNS server, as CoreDNS is one: each query goes on to an upstream with an ID of its own, each answer back to who asked. When it
 * is stopped it states its own queries as a client does. */
#include "lab.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORWARDED_MAX 8192

struct forwarded {
  struct asked own;
  uint16_t client_id;
  struct sockaddr_storage client;
};

static volatile sig_atomic_t stopping;
static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void set_id(uint8_t *bytes, uint16_t id) {
  bytes[0] = (uint8_t)(id >> 8);
  bytes[1] = (uint8_t)id;
}

int command_relay(int argc, char **argv) {
  struct endpoint local, upstream, from;
  bool has_bind = false, has_upstream = false, has_from = false;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--bind")) has_bind = endpoint_parse_with_port(option_value(argc, argv, &i), &local);
    else if (!strcmp(argv[i], "--upstream")) has_upstream = endpoint_parse_with_port(option_value(argc, argv, &i), &upstream);
    else if (!strcmp(argv[i], "--from")) has_from = endpoint_parse(option_value(argc, argv, &i), 0, &from);
  }
  if (!has_bind || !has_upstream || !has_from) usage("racelab relay --bind ADDR:PORT --upstream ADDR:PORT --from ADDR");
  struct forwarded *all = calloc(FORWARDED_MAX, sizeof *all);
  if (!all) die("remember the queries");
  int count = 0;
  struct pollfd sockets[2] = {{.fd = udp_socket(&local), .events = POLLIN}, {.fd = udp_socket(&from), .events = POLLIN}};
  struct sockaddr_storage own;
  socklen_t own_length = sizeof own;
  getsockname(sockets[1].fd, (struct sockaddr *)&own, &own_length);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  fprintf(stderr, "ready\n");
  while (!stopping) {
    if (poll(sockets, 2, -1) < 0 && errno != EINTR) die("poll");
    uint8_t bytes[LAB_PACKET_MAX];
    struct sockaddr_storage peer;
    int64_t stamp;
    ssize_t length;
    char name[LAB_NAME_MAX];
    uint16_t id, type;
    bool response;
    size_t end;
    while (!stopping && count < FORWARDED_MAX && (length = receive_stamped(sockets[0].fd, bytes, sizeof bytes, &peer, &stamp)) >= 0) {
      if (!dns_parse(bytes, (size_t)length, &id, &response, name, &type, &end) || response) continue;
      struct forwarded *next = &all[count];
      *next = (struct forwarded){.client_id = id, .client = peer};
      next->own.id = (uint16_t)(count * 40503u + 11u);
      next->own.type = type;
      snprintf(next->own.name, sizeof next->own.name, "%s", name);
      next->own.client = own;
      next->own.server = upstream;
      next->own.sent = now_realtime();
      count++;
      set_id(bytes, next->own.id);
      sendto(sockets[1].fd, bytes, (size_t)length, 0, (struct sockaddr *)&upstream.address, upstream.length);
    }
    while (!stopping && (length = receive_stamped(sockets[1].fd, bytes, sizeof bytes, &peer, &stamp)) >= 0) {
      if (!dns_parse(bytes, (size_t)length, &id, &response, name, &type, &end) || !response) continue;
      for (int i = 0; i < count; i++) {
        if (all[i].own.id != id || all[i].own.type != type || strcmp(all[i].own.name, name)) continue;
        asked_take(&all[i].own, 1, bytes, (size_t)length, &peer, stamp);
        set_id(bytes, all[i].client_id);
        sendto(sockets[0].fd, bytes, (size_t)length, 0, (struct sockaddr *)&all[i].client, local.length);
        break;
      }
    }
  }
  for (int i = 0; i < count; i++) asked_print(&all[i].own);
  return 0;
}
