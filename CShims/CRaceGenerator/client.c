// A client: two threads that may be made to send at the same moment, and a receiver that keeps the truth about the answers.
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

// One scenario's sockets in this process, one a pair; -1 before it is made and after it is closed.
struct sockets {
  _Atomic int *fd;
  // Pairs whose socket exists (or failed to), and pairs whose socket is closed again.
  _Atomic uint32_t made;
  uint32_t closed;
};

struct client {
  struct racegen *g;
  enum racegen_role role;
  int epoll;
  struct sockets sockets[RACEGEN_SCENARIOS];
  // A thread of this process has run the scenario to its end.
  _Atomic int ran[RACEGEN_SCENARIOS];
};

struct lane {
  struct client *client;
  int number;
  pthread_t thread;
};

static void sleep_nanoseconds(int64_t n) {
  struct timespec t = {.tv_sec = n / 1000000000, .tv_nsec = n % 1000000000};
  nanosleep(&t, NULL);
}

static void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Late replies have a client whose flows the kernel never moves to another source port: one moved onto the port of a late reply would receive it.
static int takes_part(enum racegen_role role, enum racegen_scenario scenario, int lane) {
  switch (scenario) {
    case RACEGEN_LATE_REPLY: return role == RACEGEN_CLIENT_2;
    case RACEGEN_REPLY_CLASH: return role == RACEGEN_CLIENT_1;
    case RACEGEN_SNAT_CLASH: return role == (lane == 0 ? RACEGEN_CLIENT_1 : RACEGEN_CLIENT_2);
    case RACEGEN_ORDINARY: return role == RACEGEN_CLIENT_3 && lane == 0;
    default: return 0;
  }
}

// A socket with a source port that no other pair of any scenario uses.
static int make_socket(struct client *c, enum racegen_scenario scenario, uint32_t pair) {
  struct sockets *sockets = &c->sockets[scenario];
  uint32_t port = FIRST_PORT + pair;
  for (int s = 0; s < (int)scenario; s++) port += pair_limit(c->g, (enum racegen_scenario)s);
  struct sockaddr_in address = {
    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(c->g->config.client_address[c->role])};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  for (int tries = 0; fd < 0 && errno == EMFILE && tries < 1000; tries++) {
    sleep_nanoseconds(5000000);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  }
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)scenario << 32 | pair};
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
    fail_child(c->g, c->role, errno);
  for (uint32_t index = pair * 2; index < pair * 2 + 2; index++) {
    if (scenario == RACEGEN_SNAT_CLASH && (index & 1) != (c->role == RACEGEN_CLIENT_2)) continue;
    struct racegen_query *q = &c->g->queries[scenario][index];
    q->client_address = c->g->config.client_address[c->role];
    q->client_port = (uint16_t)port;
    q->server_address = c->g->config.service_address[scenario][index & 1];
    q->type = index & 1 ? 28 : 1;
    __atomic_store_n(&q->dns_id, query_id(scenario, index), __ATOMIC_RELEASE);
  }
  atomic_store(&sockets->fd[pair], fd);
  atomic_store(&sockets->made, pair + 1);
  return fd;
}

struct datagram {
  uint8_t data[QUERY_CAPACITY];
  int length;
  struct sockaddr_in server;
};

static void prepare(struct client *c, enum racegen_scenario scenario, uint32_t index, struct datagram *d) {
  d->length = write_query(d->data, scenario, index, query_id(scenario, index));
  d->server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(DNS_PORT)};
  d->server.sin_addr.s_addr = htonl(c->g->config.service_address[scenario][index & 1]);
}

static void send_prepared(struct client *c, enum racegen_scenario scenario, uint32_t index, int fd, const struct datagram *d) {
  struct racegen_query *q = &c->g->queries[scenario][index];
  int64_t now = monotonic_now();
  ssize_t sent = sendto(fd, d->data, (size_t)d->length, 0, (const struct sockaddr *)&d->server, sizeof d->server);
  if (sent < 0) q->send_error = errno;
  __atomic_store_n(&q->sent_at, now, __ATOMIC_RELEASE);
}

// How many queries of a pair are bound to be lost: what no server received 150 ms later, and of two late ones on two servers the loser of the clash.
static uint32_t foreseen(const struct racegen *g, enum racegen_scenario scenario, uint32_t pair) {
  const struct racegen_query *q = &g->queries[scenario][pair * 2];
  uint8_t a = __atomic_load_n(&q[0].received_by, __ATOMIC_ACQUIRE);
  uint8_t b = __atomic_load_n(&q[1].received_by, __ATOMIC_ACQUIRE);
  return (uint32_t)(a == 0) + (uint32_t)(b == 0) + (uint32_t)(scenario == RACEGEN_LATE_REPLY && a && b && a != b);
}

static void stop(struct scenario_state *state) {
  atomic_store(&state->stopped_at, monotonic_now());
  atomic_store(&state->stopped, 1);
}

// The first of the two threads: paces the pairs and decides when there were enough.
static void lead(struct client *c, enum racegen_scenario scenario) {
  struct racegen *g = c->g;
  struct scenario_state *state = &g->shared->scenario[scenario];
  int64_t start = atomic_load(&state->started_at);
  uint32_t looked = 0, lost = 0, wanted = g->config.losses_wanted + g->config.losses_wanted / 20 + 2;
  struct datagram d;
  for (uint32_t n = 0; n < pair_limit(g, scenario) && lost < wanted; n++) {
    int64_t due = start + (int64_t)n * g->config.pair_interval_microseconds * 1000;
    int64_t now = monotonic_now();
    if (now - start > (int64_t)g->config.seconds * 1000000000) break;
    if (due > now) sleep_nanoseconds(due - now);
    for (; looked < n; looked++) {
      if (__atomic_load_n(&g->queries[scenario][looked * 2].sent_at, __ATOMIC_ACQUIRE) > monotonic_now() - 150000000) break;
      lost += foreseen(g, scenario, looked);
    }
    int fd = make_socket(c, scenario, n);
    prepare(c, scenario, n * 2, &d);
    atomic_store(&state->arrived[0], n + 1);
    for (uint32_t spins = 0; atomic_load(&state->arrived[1]) < n + 1; spins++) {
      if (spins < 100000) pause_cpu();
      else sched_yield();
    }
    send_prepared(c, scenario, n * 2, fd, &d);
    atomic_store(&state->pairs, n + 1);
  }
  stop(state);
}

// The second thread: waits for the first one without heat, and sends at the moment at which it has told it so.
static void follow(struct client *c, enum racegen_scenario scenario) {
  struct racegen *g = c->g;
  struct scenario_state *state = &g->shared->scenario[scenario];
  struct datagram d;
  for (uint32_t n = 0; n < pair_limit(g, scenario); n++) {
    prepare(c, scenario, n * 2 + 1, &d);
    while (atomic_load(&state->arrived[0]) < n + 1) {
      if (atomic_load(&state->stopped)) return;
      sleep_nanoseconds(50000);
    }
    int fd = scenario == RACEGEN_SNAT_CLASH ? make_socket(c, scenario, n) : atomic_load(&c->sockets[scenario].fd[n]);
    atomic_store(&state->arrived[1], n + 1);
    send_prepared(c, scenario, n * 2 + 1, fd, &d);
  }
}

// One thread on one CPU: the second query of a lookup is sent when the first has left the node, so that nothing can race.
static void ask_in_turn(struct client *c, enum racegen_scenario scenario) {
  struct racegen *g = c->g;
  struct scenario_state *state = &g->shared->scenario[scenario];
  int64_t start = atomic_load(&state->started_at);
  for (uint32_t n = 0; n < pair_limit(g, scenario); n++) {
    int64_t wait = start + (int64_t)n * g->config.pair_interval_microseconds * 1000 - monotonic_now();
    if (wait > 0) sleep_nanoseconds(wait);
    int fd = make_socket(c, scenario, n);
    struct datagram d;
    for (uint32_t index = n * 2; index < n * 2 + 2; index++) {
      prepare(c, scenario, index, &d);
      send_prepared(c, scenario, index, fd, &d);
    }
    atomic_store(&state->pairs, n + 1);
  }
  stop(state);
}

static void *lane_main(void *argument) {
  struct lane *lane = argument;
  struct client *c = lane->client;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(c->g->config.cpu[lane->number], &cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) fail_child(c->g, c->role, errno);
  for (int s = 0; s < RACEGEN_SCENARIOS; s++) {
    enum racegen_scenario scenario = (enum racegen_scenario)s;
    if (!takes_part(c->role, scenario, lane->number)) continue;
    while (!atomic_load(&c->g->shared->scenario[s].started)) sleep_nanoseconds(1000000);
    if (scenario == RACEGEN_ORDINARY) ask_in_turn(c, scenario);
    else if (lane->number == 0) lead(c, scenario);
    else follow(c, scenario);
    atomic_fetch_add(&c->ran[s], 1);
  }
  return NULL;
}

// Reads all answers that wait on the socket of one pair.
static void receive_answers(struct client *c, enum racegen_scenario scenario, uint32_t pair) {
  int fd = atomic_load(&c->sockets[scenario].fd[pair]);
  if (fd < 0) return;
  for (;;) {
    uint8_t data[512];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    ssize_t length = recvfrom(fd, data, sizeof data, MSG_DONTWAIT, (struct sockaddr *)&from, &size);
    if (length < 0) return;
    if (length < 12 || !(data[2] & 0x80)) continue;
    uint16_t id = (uint16_t)(data[0] << 8 | data[1]);
    for (uint32_t index = pair * 2; index < pair * 2 + 2; index++) {
      struct racegen_query *q = &c->g->queries[scenario][index];
      if (id != query_id(scenario, index)) continue;
      if (ntohl(from.sin_addr.s_addr) != q->server_address || ntohs(from.sin_port) != DNS_PORT) q->untranslated = 1;
      else if (q->answered_at == 0) __atomic_store_n(&q->answered_at, monotonic_now(), __ATOMIC_RELEASE);
    }
  }
}

// True when nothing more is expected on the socket of a pair: each query was answered or has waited long enough.
static int is_over(struct client *c, enum racegen_scenario scenario, uint32_t pair) {
  int64_t patience = 2000000000 + (scenario == RACEGEN_LATE_REPLY ? (int64_t)c->g->config.late_milliseconds * 1000000 : 0);
  for (uint32_t index = pair * 2; index < pair * 2 + 2; index++) {
    if (scenario == RACEGEN_SNAT_CLASH && (index & 1) != (c->role == RACEGEN_CLIENT_2)) continue;
    const struct racegen_query *q = &c->g->queries[scenario][index];
    int64_t sent = __atomic_load_n(&q->sent_at, __ATOMIC_ACQUIRE);
    if (sent == 0) return 0;
    if (q->answered_at == 0 && monotonic_now() - sent < patience) return 0;
  }
  return 1;
}

// Closes the sockets that are over, in order, and says when a scenario has none left.
static void close_sockets(struct client *c) {
  for (int s = 0; s < RACEGEN_SCENARIOS; s++) {
    struct sockets *sockets = &c->sockets[s];
    int lanes = takes_part(c->role, (enum racegen_scenario)s, 0) + takes_part(c->role, (enum racegen_scenario)s, 1);
    int over = atomic_load(&c->ran[s]) == lanes;
    uint32_t made = atomic_load(&sockets->made);
    while (sockets->closed < made && is_over(c, (enum racegen_scenario)s, sockets->closed)) {
      int fd = atomic_exchange(&sockets->fd[sockets->closed++], -1);
      close(fd);
    }
    if (over && sockets->closed == made) atomic_store(&c->g->shared->scenario[s].settled[c->role], 1);
  }
}

void client_main(struct racegen *g, enum racegen_role role) {
  static struct client client;
  static struct lane lanes[2];
  client.g = g;
  client.role = role;
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  client.epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event life = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
  if (client.epoll < 0 || epoll_ctl(client.epoll, EPOLL_CTL_ADD, g->life[0], &life) != 0) fail_child(g, role, errno);
  for (int s = 0; s < RACEGEN_SCENARIOS; s++) {
    uint32_t count = pair_limit(g, (enum racegen_scenario)s);
    client.sockets[s].fd = malloc(count * sizeof *client.sockets[s].fd);
    if (!client.sockets[s].fd) fail_child(g, role, ENOMEM);
    for (uint32_t n = 0; n < count; n++) client.sockets[s].fd[n] = -1;
  }
  for (int n = 0; n < 2; n++) {
    lanes[n] = (struct lane){.client = &client, .number = n};
    int error = pthread_create(&lanes[n].thread, NULL, lane_main, &lanes[n]);
    if (error) fail_child(g, role, error);
  }
  atomic_store(&g->shared->configured[role], 1);
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(client.epoll, events, 64, 20);
    if (count < 0 && errno != EINTR) fail_child(g, role, errno);
    for (int n = 0; n < count; n++) {
      if (events[n].data.u64 == UINT64_MAX) _exit(0);
      receive_answers(&client, (enum racegen_scenario)(events[n].data.u64 >> 32), (uint32_t)events[n].data.u64);
    }
    close_sockets(&client);
  }
}
