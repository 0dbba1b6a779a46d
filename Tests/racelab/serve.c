/* A DNS server on any number of addresses: answers every query, now or later, and writes down what it received. */
#include "lab.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKETS_MAX 16

/* An answer that waits for its time. The delay is one for all, so first in is first out. */
struct pending {
  struct pending *next;
  int64_t due;
  int fd;
  struct sockaddr_storage to;
  size_t length;
  uint8_t bytes[LAB_PACKET_MAX];
};

static volatile sig_atomic_t stopping;
static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static socklen_t length_of(const struct sockaddr_storage *address) {
  return address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static void note(FILE *log, const struct sockaddr_storage *from, const struct endpoint *local, uint16_t id, const char *name, uint16_t type,
                 int64_t stamp) {
  char client[INET6_ADDRSTRLEN], server[INET6_ADDRSTRLEN];
  if (log)
    fprintf(log, "recv %" PRId64 " %s %u %u %s %s %s %u\n", stamp, endpoint_address(from, client), endpoint_port(from), id, name,
            dns_type_name(type), endpoint_address(&local->address, server), endpoint_port(&local->address));
}

int command_serve(int argc, char **argv) {
  char *binds[SOCKETS_MAX];
  int count = 0, delay_ms = 0;
  bool mute = false, truncate = false, flip = false, transparent = false;
  size_t total = 0;
  FILE *log = NULL;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--bind")) count = split(option_value(argc, argv, &i), binds, SOCKETS_MAX);
    else if (!strcmp(argv[i], "--delay-ms")) delay_ms = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--mute")) mute = true;
    else if (!strcmp(argv[i], "--truncate")) truncate = true;
    else if (!strcmp(argv[i], "--flip-case")) flip = true;
    else if (!strcmp(argv[i], "--transparent")) transparent = true;
    else if (!strcmp(argv[i], "--bytes")) total = (size_t)atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--log")) {
      const char *path = option_value(argc, argv, &i);
      if (!(log = fopen(path, "w"))) die("open %s", path);
    } else usage("racelab serve --bind ADDR:PORT[,ADDR:PORT...] [--delay-ms N] [--mute] [--truncate] [--flip-case] [--bytes N]\n"
                 "              [--transparent] [--log FILE]");
  }
  if (!count) usage("racelab serve needs --bind");

  struct pollfd sockets[SOCKETS_MAX];
  struct endpoint locals[SOCKETS_MAX];
  for (int i = 0; i < count; i++) {
    if (!endpoint_parse_with_port(binds[i], &locals[i])) usage("--bind takes ADDR:PORT or [ADDR]:PORT");
    int size = 8 << 20;
    sockets[i] = (struct pollfd){.fd = udp_socket(&locals[i]), .events = POLLIN};
    setsockopt(sockets[i].fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(sockets[i].fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    /* What a TPROXY rule hands over is for an address that is not this node's. */
    int on = 1;
    bool is_v4 = locals[i].address.ss_family == AF_INET;
    if (transparent && setsockopt(sockets[i].fd, is_v4 ? SOL_IP : SOL_IPV6, is_v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof on))
      die("make a socket transparent");
  }
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  if (log) fputs("ready\n", log), fflush(log);
  puts("ready");
  fflush(stdout);

  struct pending *first = NULL, **last = &first;
  while (!stopping) {
    int timeout = -1;
    if (first) {
      int64_t wait = first->due - now_monotonic();
      timeout = wait <= 0 ? 0 : (int)(wait / 1000000) + 1;
    }
    int ready = poll(sockets, (nfds_t)count, timeout);
    if (ready < 0 && errno != EINTR) die("poll");
    for (int i = 0; ready > 0 && i < count; i++) {
      if (!(sockets[i].revents & (POLLIN | POLLERR))) continue;
      struct pending answer = {.fd = sockets[i].fd};
      int64_t stamp;
      ssize_t length;
      while ((length = receive_stamped(sockets[i].fd, answer.bytes, sizeof answer.bytes - 64, &answer.to, &stamp)) >= 0) {
        char name[LAB_NAME_MAX];
        uint16_t id, type;
        bool response;
        size_t end;
        if (!dns_parse(answer.bytes, (size_t)length, &id, &response, name, &type, &end) || response) continue;
        note(log, &answer.to, &locals[i], id, name, type, stamp);
        if (mute) continue;
        answer.length = dns_answer(answer.bytes, end, type);
        if (truncate) answer.bytes[2] |= 2;
        if (flip) dns_flip_case(answer.bytes, end);
        if (total) answer.length = dns_pad(answer.bytes, answer.length, total < LAB_PACKET_MAX ? total : LAB_PACKET_MAX);
        if (!delay_ms) {
          sendto(answer.fd, answer.bytes, answer.length, 0, (struct sockaddr *)&answer.to, length_of(&answer.to));
          continue;
        }
        struct pending *later = malloc(sizeof *later);
        if (!later) die("remember an answer");
        *later = answer;
        later->next = NULL;
        later->due = now_monotonic() + (int64_t)delay_ms * 1000000;
        *last = later;
        last = &later->next;
      }
    }
    while (first && first->due <= now_monotonic()) {
      struct pending *done = first;
      sendto(done->fd, done->bytes, done->length, 0, (struct sockaddr *)&done->to, length_of(&done->to));
      if (!(first = done->next)) last = &first;
      free(done);
    }
  }
  if (log) fclose(log);
  return 0;
}
