#include "http_internal.h"

#include <cap-ng.h>
#include <sys/prctl.h>
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  TAG_WAKE = HTTP_MAX_LISTENERS,
  TAG_MHD,
  EVENTS = HTTP_MAX_LISTENERS + 2,
  ACCEPTS_PER_TURN = 16,
  TICK_MS = 1000,
  STACK_SIZE = 512 * 1024,
  BACKLOG = 1024, // the kernel lowers it to net.core.somaxconn
};

// Where everybody holds one connection, nobody loses it sooner: long enough to send a request, and still 1,280 newcomers a second at 64 places.
#define GRACE_NS 50000000LL

int64_t http_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

http_server *http_server_create(const http_limits *limits, http_negotiate negotiate) {
  uint32_t connections = limits->connections == 0 ? 1 : limits->connections;
  if (connections > HTTP_MAX_CONNECTIONS) connections = HTTP_MAX_CONNECTIONS;
  http_server *server = calloc(1, sizeof *server + connections * sizeof server->slots[0]);
  if (server == NULL) return NULL;
  server->limits = *limits;
  server->limits.connections = connections;
  server->negotiate = negotiate;
  for (uint32_t i = 0; i < connections; i++) server->slots[i].fd = -1;
  pthread_mutex_init(&server->mutex, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&server->published, &attributes);
  pthread_condattr_destroy(&attributes);
  atomic_init(&server->heartbeat, http_now());
  server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  server->ask_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = TAG_WAKE};
  if (server->epoll_fd < 0 || server->wake_fd < 0 || server->ask_fd < 0
      || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &event) < 0
      || !http_pages_init(server)) {
    int error = errno != 0 ? errno : ENOMEM;
    http_server_destroy(server);
    errno = error;
    return NULL;
  }
  return server;
}

int http_server_listen(http_server *server, const uint8_t *address, bool v4, uint16_t port, int scope, uint16_t *bound) {
  if (server->listener_count == HTTP_MAX_LISTENERS) return ENOSPC;
  union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
  } name = {0};
  socklen_t length = v4 ? sizeof name.v4 : sizeof name.v6;
  if (v4) {
    name.v4.sin_family = AF_INET;
    name.v4.sin_port = htons(port);
    memcpy(&name.v4.sin_addr, address + 12, 4);
  } else {
    name.v6.sin6_family = AF_INET6;
    name.v6.sin6_port = htons(port);
    memcpy(&name.v6.sin6_addr, address, 16);
  }
  int fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int on = 1, off = 0;
  struct epoll_event event = {.events = 0, .data.u32 = (uint32_t)server->listener_count};
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
      || (!v4 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) || bind(fd, &name.any, length) < 0
      || listen(fd, BACKLOG) < 0 || getsockname(fd, &name.any, &length) < 0 || epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
    int error = errno;
    close(fd);
    return error;
  }
  *bound = ntohs(v4 ? name.v4.sin_port : name.v6.sin6_port);
  server->listeners[server->listener_count].fd = fd;
  server->listeners[server->listener_count].scope = scope;
  server->listeners[server->listener_count].loopback =
    v4 ? address[12] == 127 : memcmp(address, &in6addr_loopback, sizeof in6addr_loopback) == 0;
  server->listener_count++;
  return 0;
}

/// Listeners that are not accepted from for now (no descriptor left, no place) must leave the epoll set, or the level-triggered loop would spin.
static void watch_listeners(http_server *server, bool watch) {
  for (size_t i = 0; i < server->listener_count; i++) {
    struct epoll_event event = {.events = watch ? EPOLLIN : 0, .data.u32 = (uint32_t)i};
    epoll_ctl(server->epoll_fd, EPOLL_CTL_MOD, server->listeners[i].fd, &event);
  }
  server->listening = watch;
}

void http_connected(void *context, struct MHD_Connection *connection, void **slot, enum MHD_ConnectionNotificationCode code) {
  http_server *server = context;
  if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
    http_connection *closed = *slot;
    if (closed != NULL) {
      closed->fd = -1;
      atomic_fetch_sub(&server->connections, 1);
    }
    *slot = NULL;
    return;
  }
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  for (uint32_t i = 0; info != NULL && i < server->limits.connections; i++) {
    http_connection *candidate = &server->slots[i];
    if (candidate->fd != info->connect_fd) continue;
    *slot = candidate;
    // Without a session to put the demand on, no byte of this connection may be answered.
    if (!http_guard_demand_certificate(server->guard, connection)) shutdown(candidate->fd, SHUT_RDWR);
    return;
  }
}

static http_peer peer_of(const struct sockaddr_storage *address) {
  http_peer peer = {0, 0};
  if (address->ss_family == AF_INET) {
    peer.low = 0xFFFF00000000 | ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
    return peer;
  }
  const uint8_t *bytes = ((const struct sockaddr_in6 *)address)->sin6_addr.s6_addr;
  uint64_t halves[2];
  memcpy(halves, bytes, sizeof halves);
  peer.high = be64toh(halves[0]);
  if (peer.high == 0) peer.low = be64toh(halves[1]);
  return peer;
}

static bool same_peer(http_peer a, http_peer b) { return a.high == b.high && a.low == b.low; }

static uint32_t connections_of(const http_server *server, http_peer peer) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < server->limits.connections; i++) {
    if (server->slots[i].fd >= 0 && same_peer(server->slots[i].peer, peer)) count++;
  }
  return count;
}

/// Closes through MHD: it sees the end of the socket in this MHD_run, frees the connection and calls http_connected.
static void close_now(http_server *server, http_connection *connection) {
  shutdown(connection->fd, SHUT_RDWR);
  MHD_run(http_guard_daemon(server->guard));
}

/// The connection that has taken longest over its request, among those of `peer`, or of the peer with the most connections.
static http_connection *victim(http_server *server, const http_peer *peer) {
  http_connection *chosen = NULL;
  uint32_t most = 0;
  for (uint32_t i = 0; i < server->limits.connections; i++) {
    http_connection *candidate = &server->slots[i];
    if (candidate->fd < 0 || (peer != NULL && !same_peer(candidate->peer, *peer))) continue;
    uint32_t count = peer != NULL ? 0 : connections_of(server, candidate->peer);
    if (chosen == NULL || count > most || (count == most && candidate->since < chosen->since)) {
      chosen = candidate;
      most = count;
    }
  }
  return chosen;
}

static bool evict(http_server *server, const http_peer *peer) {
  http_connection *chosen = victim(server, peer);
  if (chosen == NULL) return false;
  close_now(server, chosen);
  if (chosen->fd >= 0) return false;
  atomic_fetch_add(&server->evicted, 1);
  return true;
}

/// How long the backlog must wait because every place was taken just now by somebody who has no other; 0 where a newcomer can be admitted.
static int64_t crowded_for(http_server *server, int64_t now) {
  if (atomic_load(&server->connections) < server->limits.connections) return 0;
  http_connection *chosen = victim(server, NULL);
  if (chosen == NULL || now - chosen->since >= GRACE_NS || connections_of(server, chosen->peer) > 1) return 0;
  return GRACE_NS - (now - chosen->since);
}

/// A newcomer gets a place from whoever is slowest: a longer wait in the backlog would let slow clients keep good ones out.
static void admit(http_server *server, int fd, const struct sockaddr_storage *address, socklen_t length, size_t listener) {
  http_peer peer = peer_of(address);
  bool room = connections_of(server, peer) < server->limits.connections_per_peer || evict(server, &peer);
  if (room && atomic_load(&server->connections) >= server->limits.connections) room = evict(server, NULL);
  http_connection *slot = NULL;
  for (uint32_t i = 0; room && slot == NULL && i < server->limits.connections; i++) {
    if (server->slots[i].fd < 0) slot = &server->slots[i];
  }
  if (slot == NULL) {
    close(fd);
    atomic_fetch_add(&server->refused, 1);
    return;
  }
  int scope = server->listeners[listener].scope;
  bool guards_host = scope == HTTP_SCOPE_ALL && server->listeners[listener].loopback;
  *slot = (http_connection){.fd = fd, .scope = scope, .guards_host = guards_host, .peer = peer, .since = http_now()};
  atomic_fetch_add(&server->connections, 1);
  // MHD closes the descriptor also where it fails, and then calls http_connected only if it had called it before.
  if (MHD_add_connection(http_guard_daemon(server->guard), fd, (const struct sockaddr *)address, length) == MHD_YES) return;
  if (slot->fd >= 0) {
    slot->fd = -1;
    atomic_fetch_sub(&server->connections, 1);
  }
  atomic_fetch_add(&server->refused, 1);
}

static void accept_from(http_server *server, size_t index) {
  for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
    int64_t now = http_now(), wait = crowded_for(server, now);
    if (wait > 0) {
      server->resume = now + wait;
      watch_listeners(server, false);
      return;
    }
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int fd = accept4(server->listeners[index].fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        server->resume = now + (int64_t)TICK_MS * 1000000;
        watch_listeners(server, false);
      }
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return;
    }
    atomic_fetch_add(&server->accepted, 1);
    admit(server, fd, &address, length, index);
  }
}

/// MHD's own time-out is for silence: a byte now and then would hold a connection for ever.
static void sweep(http_server *server, int64_t now) {
  int64_t limit = (int64_t)server->limits.request_milliseconds * 1000000;
  for (uint32_t i = 0; i < server->limits.connections; i++) {
    http_connection *connection = &server->slots[i];
    if (connection->fd < 0 || now - connection->since < limit) continue;
    close_now(server, connection);
    if (connection->fd < 0) atomic_fetch_add(&server->expired, 1);
  }
  server->swept = now;
}

/// Makes `guard` the current one; closes every connection of the old one.
static void take_guard(http_server *server, http_guard *guard) {
  if (server->guard != NULL) {
    const union MHD_DaemonInfo *old = MHD_get_daemon_info(http_guard_daemon(server->guard), MHD_DAEMON_INFO_EPOLL_FD);
    if (old != NULL) epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, old->epoll_fd, NULL);
    http_guard_free(server->guard);
  }
  server->guard = guard;
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(http_guard_daemon(guard), MHD_DAEMON_INFO_EPOLL_FD);
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = TAG_MHD};
  if (info != NULL) epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, info->epoll_fd, &event);
}

static void take_next_guard(http_server *server) {
  uint64_t count;
  while (read(server->wake_fd, &count, sizeof count) < 0 && errno == EINTR) {}
  pthread_mutex_lock(&server->mutex);
  http_guard *next = server->next_guard;
  server->next_guard = NULL;
  pthread_mutex_unlock(&server->mutex);
  if (next != NULL) take_guard(server, next);
}

/// No wake-up of its own while there is no connection; else a tick for the sweep, and because MHD puts off work to its next run.
static int next_timeout(http_server *server, int tick) {
  if (atomic_load(&server->connections) == 0 && server->listening) return -1;
  if (!server->listening) {
    int64_t wait = (server->resume - http_now() + 999999) / 1000000;
    if (wait < tick) tick = wait < 0 ? 0 : (int)wait;
  }
  MHD_UNSIGNED_LONG_LONG wanted;
  if (MHD_get_timeout(http_guard_daemon(server->guard), &wanted) == MHD_YES && wanted < (MHD_UNSIGNED_LONG_LONG)tick) return (int)wanted;
  return tick;
}

/// Capabilities belong to a thread: what reads strangers' requests keeps none.
static void drop_capabilities(void) {
  capng_clear(CAPNG_SELECT_BOTH);
  capng_apply(CAPNG_SELECT_CAPS);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void *serve(void *argument) {
  http_server *server = argument;
  drop_capabilities();
  uint32_t quarter = server->limits.request_milliseconds / 4;
  int tick = quarter < 1 ? 1 : quarter < TICK_MS ? (int)quarter : TICK_MS;
  watch_listeners(server, true);
  while (!atomic_load(&server->stopping)) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(server->epoll_fd, events, EVENTS, next_timeout(server, tick));
    for (int i = 0; i < count; i++) {
      if (events[i].data.u32 == TAG_WAKE) take_next_guard(server);
      if (events[i].data.u32 < HTTP_MAX_LISTENERS) accept_from(server, events[i].data.u32);
    }
    MHD_run(http_guard_daemon(server->guard));
    int64_t now = http_now();
    if (!server->listening && now >= server->resume) watch_listeners(server, true);
    if (now - server->swept >= (int64_t)tick * 1000000) sweep(server, now);
  }
  return NULL;
}

static void wake(http_server *server) {
  uint64_t one = 1;
  while (write(server->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

int http_server_secure(http_server *server, const http_security *security, char *reason, size_t reason_size) {
  http_guard *guard;
  int error = http_guard_create(server, security, &guard, reason, reason_size);
  if (error != 0) return error;
  if (!server->started) {
    take_guard(server, guard);
    return 0;
  }
  pthread_mutex_lock(&server->mutex);
  http_guard *unused = server->next_guard;
  server->next_guard = guard;
  pthread_mutex_unlock(&server->mutex);
  wake(server);
  http_guard_free(unused);
  return 0;
}

int http_server_start(http_server *server) {
  if (server->guard == NULL) return EINVAL;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  // The thread inherits the mask. Signals belong to the pipeline's signalfd, and SIGPIPE to nobody.
  sigset_t all, previous;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &previous);
  int error = pthread_create(&server->thread, &attributes, serve, server);
  pthread_sigmask(SIG_SETMASK, &previous, NULL);
  pthread_attr_destroy(&attributes);
  if (error != 0) return error;
  server->started = true;
  pthread_setname_np(server->thread, "http");
  return 0;
}

int http_server_ask_descriptor(const http_server *server) { return server->ask_fd; }

bool http_server_was_asked(http_server *server) {
  uint64_t count;
  ssize_t length;
  do length = read(server->ask_fd, &count, sizeof count);
  while (length < 0 && errno == EINTR);
  return length == sizeof count;
}

void http_server_set_ready(http_server *server, bool ready) { atomic_store(&server->ready, ready); }

void http_server_heartbeat(http_server *server) { atomic_store(&server->heartbeat, http_now()); }

void http_server_read_counters(const http_server *server, http_counters *counters) {
  counters->connections = atomic_load(&server->connections);
  counters->accepted = atomic_load(&server->accepted);
  counters->evicted = atomic_load(&server->evicted);
  counters->expired = atomic_load(&server->expired);
  counters->refused = atomic_load(&server->refused);
  counters->requests = atomic_load(&server->requests);
  counters->unauthorized = atomic_load(&server->unauthorized);
  counters->misdirected = atomic_load(&server->misdirected);
}

void http_server_destroy(http_server *server) {
  if (server == NULL) return;
  if (server->started) {
    atomic_store(&server->stopping, true);
    wake(server);
    pthread_join(server->thread, NULL);
  }
  http_guard_free(server->guard);
  http_guard_free(server->next_guard);
  http_pages_free(server);
  for (size_t i = 0; i < server->listener_count; i++) close(server->listeners[i].fd);
  if (server->epoll_fd >= 0) close(server->epoll_fd);
  if (server->wake_fd >= 0) close(server->wake_fd);
  if (server->ask_fd >= 0) close(server->ask_fd);
  pthread_cond_destroy(&server->published);
  pthread_mutex_destroy(&server->mutex);
  free(server);
}
