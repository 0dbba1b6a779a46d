#include "http_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

// Questions that only the caller's thread can answer. The server's thread asks one at a time and waits; it does not wait again for a caller that has
// just let it wait in vain, so that nobody can slow the other pages down for long.

static const char prefix[] = "/api/v1/flows/";
#define CREDIT_NS (1000000000LL / HTTP_LOOKUPS_PER_SECOND)
#define PAUSE_NS 1000000000LL

bool http_lookups_init(http_server *server) {
  server->lookup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (server->lookup_fd < 0) return false;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&server->answered, &attributes);
  pthread_condattr_destroy(&attributes);
  server->lookup_credit = HTTP_LOOKUPS_AT_ONCE * CREDIT_NS;
  server->lookup_time = http_now();
  server->lookups_ready = true;
  return true;
}

void http_lookups_free(http_server *server) {
  if (!server->lookups_ready) return;
  if (server->lookup_response != NULL) MHD_destroy_response(server->lookup_response);
  close(server->lookup_fd);
  pthread_cond_destroy(&server->answered);
}

bool http_is_lookup(const char *url) { return strncmp(url, prefix, sizeof prefix - 1) == 0; }

static bool parse_id(const char *text, uint64_t *id) {
  if (strlen(text) != 16) return false;
  *id = 0;
  for (int i = 0; i < 16; i++) {
    char c = text[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return false;
    *id = *id << 4 | (unsigned)digit;
  }
  return true;
}

static bool parse_backend(struct MHD_Connection *connection, http_lookup *lookup) {
  const char *text = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "backend");
  if (text == NULL) return true;
  lookup->has_backend = true;
  lookup->backend_is_v4 = inet_pton(AF_INET, text, lookup->backend + 12) == 1;
  return lookup->backend_is_v4 || inet_pton(AF_INET6, text, lookup->backend) == 1;
}

static bool take_credit(http_server *server, int64_t now) {
  server->lookup_credit += now - server->lookup_time;
  server->lookup_time = now;
  if (server->lookup_credit > HTTP_LOOKUPS_AT_ONCE * CREDIT_NS) server->lookup_credit = HTTP_LOOKUPS_AT_ONCE * CREDIT_NS;
  if (server->lookup_credit < CREDIT_NS) return false;
  server->lookup_credit -= CREDIT_NS;
  return true;
}

static enum MHD_Result refuse(http_server *server, struct MHD_Connection *connection, unsigned status, http_fixed which) {
  atomic_fetch_add(&server->requests, 1);
  return MHD_queue_response(connection, status, server->fixed[which]);
}

/// The caller's answer, or NULL if it did not come in time.
static struct MHD_Response *wait_for_answer(http_server *server, const http_lookup *asked, unsigned *status) {
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_nsec += HTTP_LOOKUP_WAIT_MS * 1000000L;
  end.tv_sec += end.tv_nsec / 1000000000;
  end.tv_nsec %= 1000000000;
  uint64_t one = 1;
  pthread_mutex_lock(&server->mutex);
  server->lookup = *asked;
  server->lookup.ticket = ++server->lookup_tickets;
  server->lookup_waits = true;
  while (write(server->lookup_fd, &one, sizeof one) < 0 && errno == EINTR) {}
  int error = 0;
  while (server->lookup_answered != server->lookup_tickets && error == 0) {
    error = pthread_cond_timedwait(&server->answered, &server->mutex, &end);
  }
  server->lookup_waits = false;
  struct MHD_Response *response = server->lookup_response;
  server->lookup_response = NULL;
  *status = server->lookup_status;
  pthread_mutex_unlock(&server->mutex);
  return response;
}

enum MHD_Result http_answer_lookup(http_server *server, struct MHD_Connection *connection, const char *url) {
  http_lookup lookup = {0};
  if (!parse_id(url + sizeof prefix - 1, &lookup.id) || !parse_backend(connection, &lookup)) {
    return refuse(server, connection, MHD_HTTP_BAD_REQUEST, HTTP_FIXED_BAD_FLOW);
  }
  int64_t now = http_now();
  if (!take_credit(server, now)) return refuse(server, connection, MHD_HTTP_TOO_MANY_REQUESTS, HTTP_FIXED_RATE);
  if (server->lookup_refused != 0 && now - server->lookup_refused < PAUSE_NS) {
    return refuse(server, connection, MHD_HTTP_SERVICE_UNAVAILABLE, HTTP_FIXED_BUSY);
  }
  unsigned status;
  struct MHD_Response *response = wait_for_answer(server, &lookup, &status);
  server->lookup_refused = response == NULL ? http_now() : 0;
  if (response == NULL) return refuse(server, connection, MHD_HTTP_SERVICE_UNAVAILABLE, HTTP_FIXED_BUSY);
  atomic_fetch_add(&server->requests, 1);
  enum MHD_Result result = MHD_queue_response(connection, status, response);
  MHD_destroy_response(response);
  return result;
}

int http_server_lookup_descriptor(const http_server *server) { return server->lookup_fd; }

bool http_server_take_lookup(http_server *server, http_lookup *lookup) {
  uint64_t count;
  while (read(server->lookup_fd, &count, sizeof count) < 0 && errno == EINTR) {}
  pthread_mutex_lock(&server->mutex);
  bool waits = server->lookup_waits && server->lookup_answered != server->lookup.ticket;
  if (waits) *lookup = server->lookup;
  pthread_mutex_unlock(&server->mutex);
  return waits;
}

int http_server_answer_lookup(http_server *server, uint64_t ticket, unsigned status, const uint8_t *body, size_t size) {
  struct MHD_Response *response =
    MHD_create_response_from_buffer(size, (void *)(size == 0 ? (const uint8_t *)"" : body), MHD_RESPMEM_MUST_COPY);
  if (response != NULL && !http_add_common_headers(response, "application/json")) {
    MHD_destroy_response(response);
    response = NULL;
  }
  pthread_mutex_lock(&server->mutex);
  struct MHD_Response *unused = response;
  if (server->lookup_waits && server->lookup.ticket == ticket && server->lookup_answered != ticket) {
    server->lookup_answered = ticket;
    server->lookup_response = response;
    server->lookup_status = status;
    unused = NULL;
    pthread_cond_signal(&server->answered);
  }
  pthread_mutex_unlock(&server->mutex);
  if (unused != NULL) MHD_destroy_response(unused);
  return response == NULL ? ENOMEM : 0;
}
