/* One ares_getaddrinfo for both families, timed: the resolver of Envoy and of Node's dns.resolve. */
#include <ares.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

struct outcome {
  int done, status, v4, v6;
};

static void took(void *argument, int status, int timeouts, struct ares_addrinfo *found) {
  struct outcome *outcome = argument;
  (void)timeouts;
  outcome->done = 1;
  outcome->status = status;
  if (!found) return;
  for (struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next)
    *(node->ai_family == AF_INET6 ? &outcome->v6 : &outcome->v4) += 1;
  ares_freeaddrinfo(found);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    ares_channel channel;
    if (ares_library_init(ARES_LIB_INIT_ALL) || ares_init(&channel)) return 1;
    struct ares_addrinfo_hints hints;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    struct outcome outcome = {0, 0, 0, 0};
    double start = now();
    ares_getaddrinfo(channel, argv[i], "80", &hints, took, &outcome);
    while (!outcome.done) {
      fd_set readable, writable;
      FD_ZERO(&readable);
      FD_ZERO(&writable);
      int count = ares_fds(channel, &readable, &writable);
      struct timeval limit = {1, 0};
      struct timeval *wait = ares_timeout(channel, &limit, &limit);
      if (select(count, &readable, &writable, NULL, wait) < 0) return 1;
      ares_process(channel, &readable, &writable);
    }
    printf("lookup %s status=%d seconds=%.4f a=%d aaaa=%d\n", argv[i], outcome.status, now() - start, outcome.v4, outcome.v6);
    ares_destroy(channel);
  }
  return 0;
}
