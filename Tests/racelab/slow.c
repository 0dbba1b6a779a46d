/* Clients of a web server that are all slow: half never end their request, half ask and never read. Each has a loopback address of its own, and who is
   closed comes again, until the time is over or SIGTERM comes. */
#include "lab.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct slow {
  int fd; /* -1: closed */
  bool asks;
};

static long opened, closed_again;
static volatile sig_atomic_t stopping;

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void come(struct slow *client, int index, const struct endpoint *server, const char *path) {
  char address[INET6_ADDRSTRLEN], request[256];
  struct endpoint own;
  snprintf(address, sizeof address, "127.%d.%d.%d", 1 + index / 62500, index / 250 % 250, 1 + index % 250);
  endpoint_parse(address, 0, &own);
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int small = 2048;
  if (client->fd < 0) die("open a socket");
  setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  if (bind(client->fd, (struct sockaddr *)&own.address, own.length) || connect(client->fd, (const struct sockaddr *)&server->address, server->length)) {
    close(client->fd);
    client->fd = -1;
    return;
  }
  int length = snprintf(request, sizeof request, client->asks ? "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" : "GET %s HTTP/1.1\r\nX: ", path);
  if (write(client->fd, request, (size_t)length) == length) opened++;
}

/* True while the server holds the connection. Reads nothing of an answer. */
static bool is_held(struct slow *client) {
  char byte;
  ssize_t got = recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN)) return false;
  return client->asks || send(client->fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

int command_slow(int argc, char **argv) {
  struct endpoint server;
  if (argc != 5 || !endpoint_parse_with_port(argv[1], &server)) usage("racelab slow ADDR:PORT PATH CLIENTS SECONDS");
  int count = atoi(argv[3]);
  int64_t end = now_monotonic() + (int64_t)(atof(argv[4]) * 1e9);
  struct slow *clients = calloc((size_t)count, sizeof *clients);
  if (!clients) die("hold the clients");
  raise_descriptor_limit();
  struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
  sigaction(SIGTERM, &action, NULL);
  for (int i = 0; i < count; i++) clients[i] = (struct slow){.fd = -1, .asks = i % 2};
  for (int round = 0; !stopping && now_monotonic() < end; round++) {
    for (int i = 0; i < count; i++) {
      if (clients[i].fd < 0) {
        come(&clients[i], i, &server, argv[2]);
      } else if (!is_held(&clients[i])) {
        close(clients[i].fd);
        clients[i].fd = -1;
        closed_again++;
      }
    }
    if (round == 0) puts("ready"), fflush(stdout);
    sleep_until_monotonic(now_monotonic() + 100000000);
  }
  printf("opened %ld closed %ld\n", opened, closed_again);
  return 0;
}
