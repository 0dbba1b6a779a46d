/* The racing client: two threads on two CPUs leave a spin barrier together and each sends one packet of a pair. Every pair has a source port
 * of its own. One socket: the pair shares it (a resolver's A and AAAA, or musl's two servers). Two: each thread has its own, in a namespace
 * of its own, on the same port (two pods behind one masquerading address). */
#include "lab.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct plan {
  struct endpoint from[2], servers[2];
  const char *netns[2];
  uint16_t types[2];
  int sources, pairs, port_base, gap_us;
  int64_t pace, start;
  bool same_question, tcp;
  enum { QUERY, PAGED, RESPONSE, SHORT, GARBAGE } payload;
  const char *label;
  struct asked *queries; /* two a pair: thread 0's, thread 1's */
  atomic_int prepared;
  atomic_int *arrived; /* one a pair, so that no barrier is ever reused */
};

struct runner {
  struct plan *plan;
  int index;
  pthread_t thread;
};

/* On a busy machine an ordinary thread would leave the barrier late and the race would not happen. */
static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  struct sched_param parameter = {.sched_priority = 10};
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameter);
}

static int open_tcp(const struct endpoint *local) {
  int fd = socket(local->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (fd < 0) die("open a TCP socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)&local->address, local->length)) die("bind a TCP socket to port %u", endpoint_port(&local->address));
  return fd;
}

/* What is sent in place of a query by somebody who means no good. Whoever reads it finds no question. */
static size_t spoil(const struct plan *plan, uint8_t *bytes, size_t length) {
  if (plan->payload == RESPONSE) bytes[2] |= 0x80;
  if (plan->payload == GARBAGE) memset(bytes + 12, 0xFF, length - 12);
  return plan->payload == SHORT ? 5 : length;
}

/* Thread 0 opens what the pair shares; a second source, or a second TCP socket, is thread 1's. */
static void prepare(struct plan *plan, int index) {
  for (int i = 0; i < plan->pairs; i++) {
    struct asked *pair = &plan->queries[2 * i], *query = &pair[index];
    int source = plan->sources == 2 ? index : 0;
    struct endpoint local = plan->from[source];
    if (plan->port_base) endpoint_set_port(&local.address, (uint16_t)(plan->port_base + i));
    if (plan->tcp) {
      if (index) endpoint_set_port(&local.address, endpoint_port(&pair[0].client));
      query->fd = open_tcp(&local);
    } else if (index == 0 || plan->sources == 2) {
      query->fd = udp_socket(&local);
    } else {
      query->fd = pair[0].fd;
    }
    /* Then a packet's linear part holds its headers alone. */
    if (plan->payload == PAGED && setsockopt(query->fd, SOL_SOCKET, SO_ZEROCOPY, &(int){1}, sizeof(int))) die("send without copying");
    socklen_t length = sizeof query->client;
    getsockname(query->fd, (struct sockaddr *)&query->client, &length);
    query->server = plan->servers[index];
    query->type = plan->types[index];
    snprintf(query->name, sizeof query->name, "p%d.%s.race.test", i, plan->label);
    query->id = (uint16_t)((plan->same_question ? i : 2 * i + index) * 40503u + 12345u);
  }
}

static void *run(void *argument) {
  struct runner *runner = argument;
  struct plan *plan = runner->plan;
  int index = runner->index;
  if (plan->netns[index]) enter_netns(plan->netns[index]);
  while (index == 1 && !atomic_load(&plan->prepared)) usleep(100);
  prepare(plan, index);
  atomic_fetch_add(&plan->prepared, 1);
  while (atomic_load(&plan->prepared) < 2) usleep(100);
  pin(index);
  for (int i = 0; i < plan->pairs; i++) {
    struct asked *query = &plan->queries[2 * i + index];
    uint8_t bytes[LAB_PACKET_MAX];
    size_t length = spoil(plan, bytes, dns_query(bytes, query->id, query->name, query->type));
    if (plan->pace) sleep_until_monotonic(plan->start + i * plan->pace);
    atomic_fetch_add(&plan->arrived[i], 1);
    for (unsigned spins = 0; atomic_load_explicit(&plan->arrived[i], memory_order_acquire) < 2;)
      if (++spins > 100000) sched_yield(), spins = 0;
    if (index && plan->gap_us) {
      int64_t until = now_monotonic() + (int64_t)plan->gap_us * 1000;
      sleep_until_monotonic(until);
    }
    query->sent = now_realtime();
    ssize_t sent = plan->tcp ? connect(query->fd, (struct sockaddr *)&query->server.address, query->server.length)
                             : sendto(query->fd, bytes, length, plan->payload == PAGED ? MSG_ZEROCOPY : 0, (struct sockaddr *)&query->server.address, query->server.length);
    query->refused = sent < 0 && errno == EPERM;
    if (sent < 0 && errno != EINPROGRESS && !query->refused) query->sent = 0;
  }
  return NULL;
}

static void collect(struct plan *plan) {
  for (int i = 0; i < plan->pairs; i++)
    for (int k = 0; k < plan->sources; k++) {
      struct asked *pair = &plan->queries[2 * i];
      uint8_t bytes[LAB_PACKET_MAX];
      struct sockaddr_storage from;
      int64_t stamp;
      ssize_t length;
      while ((length = receive_stamped(pair[k].fd, bytes, sizeof bytes, &from, &stamp)) >= 0)
        asked_take(plan->sources == 2 ? &pair[k] : pair, plan->sources == 2 ? 1 : 2, bytes, (size_t)length, &from, stamp);
    }
}

/* A handshake packet that was lost is sent again after a second: a connection without a second try counts as answered. */
static void collect_tcp(struct plan *plan) {
  for (int i = 0; i < plan->pairs * 2; i++) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    getsockopt(plan->queries[i].fd, IPPROTO_TCP, TCP_INFO, &info, &length);
    if (!info.tcpi_total_retrans) plan->queries[i].answered = plan->queries[i].sent;
  }
}

static const char *help =
    "racelab race --from ADDR[,ADDR] --servers ADDR[,ADDR] [--port 53] [--netns NAME[,NAME]] [--pairs N] [--pace-us N] [--wait-ms N]\n"
    "             [--types A,AAAA] [--same-question] [--port-base N] [--gap-us N] [--label TEXT] [--tcp] [--quiet]\n"
    "             [--payload query|paged|response|short|garbage]";
static const char *payloads[] = {"query", "paged", "response", "short", "garbage"};

int command_race(int argc, char **argv) {
  static struct plan plan = {.types = {LAB_TYPE_A, LAB_TYPE_AAAA}, .pairs = 400, .pace = 1000000, .label = "race"};
  char *from[2], *servers[2], *types[2], *netns[2];
  int server_count = 0, netns_count = 0, wait_ms = 3000, port = 53;
  bool quiet = false;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--from")) plan.sources = split(option_value(argc, argv, &i), from, 2);
    else if (!strcmp(argv[i], "--servers")) server_count = split(option_value(argc, argv, &i), servers, 2);
    else if (!strcmp(argv[i], "--netns")) netns_count = split(option_value(argc, argv, &i), netns, 2);
    else if (!strcmp(argv[i], "--port")) port = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--pairs")) plan.pairs = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--pace-us")) plan.pace = (int64_t)atoi(option_value(argc, argv, &i)) * 1000;
    else if (!strcmp(argv[i], "--wait-ms")) wait_ms = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--port-base")) plan.port_base = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--gap-us")) plan.gap_us = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--label")) plan.label = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--same-question")) plan.same_question = true;
    else if (!strcmp(argv[i], "--tcp")) plan.tcp = true;
    else if (!strcmp(argv[i], "--payload")) {
      const char *wanted = option_value(argc, argv, &i);
      while (plan.payload < GARBAGE && strcmp(payloads[plan.payload], wanted)) plan.payload++;
      if (strcmp(payloads[plan.payload], wanted)) usage(help);
    }
    else if (!strcmp(argv[i], "--quiet")) quiet = true;
    else if (!strcmp(argv[i], "--types")) {
      if (split(option_value(argc, argv, &i), types, 2) != 2) usage(help);
      plan.types[0] = dns_type_parse(types[0]), plan.types[1] = dns_type_parse(types[1]);
    } else usage(help);
  }
  if (!plan.sources || !server_count || plan.pairs < 1) usage(help);
  if (plan.same_question) plan.types[1] = plan.types[0];
  raise_descriptor_limit();
  plan.queries = calloc((size_t)plan.pairs * 2, sizeof *plan.queries);
  plan.arrived = calloc((size_t)plan.pairs, sizeof *plan.arrived);
  if (!plan.queries || !plan.arrived) die("remember the pairs");
  for (int k = 0; k < 2; k++) {
    if (!endpoint_parse(from[k % plan.sources], 0, &plan.from[k])) usage(help);
    if (!endpoint_parse(servers[k % server_count], (uint16_t)port, &plan.servers[k])) usage(help);
    plan.netns[k] = netns_count ? netns[k % netns_count] : NULL;
  }
  plan.start = now_monotonic() + 50000000 + (int64_t)plan.pairs * 50000;
  struct runner runners[2];
  for (int k = 0; k < 2; k++) {
    runners[k] = (struct runner){.plan = &plan, .index = k};
    if ((errno = pthread_create(&runners[k].thread, NULL, run, &runners[k]))) die("start a racing thread");
  }
  for (int k = 0; k < 2; k++) pthread_join(runners[k].thread, NULL);
  sleep_until_monotonic(now_monotonic() + (int64_t)wait_ms * 1000000);
  int sent = 0, answered = 0, strayed = 0;
  plan.tcp ? collect_tcp(&plan) : collect(&plan);
  for (int i = 0; i < plan.pairs * 2; i++) {
    sent += plan.queries[i].sent != 0;
    answered += plan.queries[i].answered != 0;
    strayed += plan.queries[i].strayed != 0;
    if (!quiet && !plan.tcp) asked_print(&plan.queries[i]);
  }
  printf("summary sent=%d answered=%d strayed=%d\n", sent, answered, strayed);
  return 0;
}
