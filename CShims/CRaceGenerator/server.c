// A DNS server: notes which query it received and answers it, those of the late scenario only after a while.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "generator.h"

// A query that waits for its answer. The delay is the same for all, so that a ring in order of arrival is in order of departure.
struct waiting {
  int64_t due;
  struct sockaddr_in client;
  int length;
  uint8_t data[QUERY_CAPACITY];
};

enum { RING = 32768 };

static void answer(int fd, const uint8_t *query, int length, const struct sockaddr_in *client) {
  uint8_t out[QUERY_CAPACITY + 64];
  int size = write_answer(out, query, length);
  sendto(fd, out, (size_t)size, 0, (const struct sockaddr *)client, sizeof *client);
}

// Receives what is there; returns the new tail of the ring.
static uint32_t receive_queries(struct racegen *g, enum racegen_role role, int fd, struct waiting *ring, uint32_t head, uint32_t tail) {
  for (;;) {
    struct waiting *slot = &ring[tail % RING];
    socklen_t size = sizeof slot->client;
    if (tail - head == RING) return tail;
    ssize_t length = recvfrom(fd, slot->data, sizeof slot->data, MSG_DONTWAIT, (struct sockaddr *)&slot->client, &size);
    if (length < 0) return tail;
    enum racegen_scenario scenario;
    uint32_t index;
    if (read_query(slot->data, (int)length, &scenario, &index) != 0 || index / 2 >= pair_limit(g, scenario)) continue;
    __atomic_store_n(&g->queries[scenario][index].received_by, role == RACEGEN_SERVER_1 ? 1 : 2, __ATOMIC_RELEASE);
    if (scenario != RACEGEN_LATE_REPLY) {
      answer(fd, slot->data, (int)length, &slot->client);
      continue;
    }
    slot->length = (int)length;
    slot->due = monotonic_now() + (int64_t)g->config.late_milliseconds * 1000000;
    tail++;
  }
}

void server_main(struct racegen *g, enum racegen_role role) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(DNS_PORT)};
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) fail_child(g, role, errno);
  int size = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  struct waiting *ring = calloc(RING, sizeof *ring);
  if (!ring) fail_child(g, role, ENOMEM);
  atomic_store(&g->shared->configured[role], 1);

  uint32_t head = 0, tail = 0;
  for (;;) {
    int64_t now = monotonic_now();
    while (head != tail && ring[head % RING].due <= now) {
      struct waiting *slot = &ring[head++ % RING];
      answer(fd, slot->data, slot->length, &slot->client);
    }
    int timeout = head == tail ? -1 : (int)((ring[head % RING].due - now) / 1000000) + 1;
    struct pollfd polled[2] = {{.fd = fd, .events = POLLIN}, {.fd = g->life[0], .events = POLLIN}};
    if (poll(polled, 2, timeout) < 0 && errno != EINTR) fail_child(g, role, errno);
    if (polled[1].revents) _exit(0);
    tail = receive_queries(g, role, fd, ring, head, tail);
  }
}
