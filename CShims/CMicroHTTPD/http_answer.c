#include "http_internal.h"

#include <arpa/inet.h>
#include <string.h>

enum {
  ACCEPT_LIMIT = 2048,     // bytes of Accept that are looked at; Prometheus sends about 250
  UPLOAD_LIMIT = 16 * 1024 // bytes of a body that a GET may carry and have ignored
};

static enum MHD_Result answer_fixed(http_server *server, struct MHD_Connection *connection, unsigned status, http_fixed which) {
  atomic_fetch_add(&server->requests, 1);
  return MHD_queue_response(connection, status, server->fixed[which]);
}

typedef struct {
  size_t length;
  char text[ACCEPT_LIMIT];
} accept_values;

/// Joins the values of repeated Accept headers with commas (RFC 9110 5.3). One that does not fit is left out whole.
static enum MHD_Result collect_accept(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
  (void)kind;
  accept_values *accept = context;
  if (value == NULL || strcasecmp(name, MHD_HTTP_HEADER_ACCEPT) != 0) return MHD_YES;
  size_t length = strlen(value);
  if (length + 1 > sizeof accept->text - accept->length) return MHD_YES;
  if (accept->length > 0) accept->text[accept->length++] = ',';
  memcpy(accept->text + accept->length, value, length);
  accept->length += length;
  return MHD_YES;
}

static int choose_variant(http_server *server, struct MHD_Connection *connection) {
  accept_values accept;
  accept.length = 0;
  MHD_get_connection_values(connection, MHD_HEADER_KIND, collect_accept, &accept);
  bool preferred = accept.length > 0 && server->negotiate((const uint8_t *)accept.text, accept.length);
  return preferred ? HTTP_VARIANT_OPENMETRICS : HTTP_VARIANT_DEFAULT;
}

static http_connection *connection_slot(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return info == NULL ? NULL : info->socket_context;
}

/// /-/healthy and /-/ready: for the kubelet, which has no password.
static enum MHD_Result answer_probe(http_server *server, struct MHD_Connection *connection, const char *url) {
  if (strcmp(url, "/-/healthy") == 0) {
    int64_t limit = (int64_t)server->limits.heartbeat_milliseconds * 1000000;
    if (http_now() - atomic_load(&server->heartbeat) > limit) {
      return answer_fixed(server, connection, MHD_HTTP_SERVICE_UNAVAILABLE, HTTP_FIXED_STALLED);
    }
  } else if (!atomic_load(&server->ready)) {
    return answer_fixed(server, connection, MHD_HTTP_SERVICE_UNAVAILABLE, HTTP_FIXED_NOT_READY);
  }
  return answer_fixed(server, connection, MHD_HTTP_OK, HTTP_FIXED_OK);
}

static enum MHD_Result answer_page(http_server *server, struct MHD_Connection *connection, const http_connection *slot, const char *url) {
  bool metrics = strcmp(url, "/metrics") == 0;
  if (!metrics && slot->scope != HTTP_SCOPE_ALL && !http_guard_has_users(server->guard)) {
    return answer_fixed(server, connection, MHD_HTTP_NOT_FOUND, HTTP_FIXED_NOT_FOUND);
  }
  if (http_is_lookup(url)) return http_answer_lookup(server, connection, url);
  http_page *page = http_page_take(server, url, choose_variant(server, connection));
  if (page == NULL) {
    return metrics ? answer_fixed(server, connection, MHD_HTTP_SERVICE_UNAVAILABLE, HTTP_FIXED_NOT_RENDERED)
                   : answer_fixed(server, connection, MHD_HTTP_NOT_FOUND, HTTP_FIXED_NOT_FOUND);
  }
  atomic_fetch_add(&server->requests, 1);
  enum MHD_Result result = MHD_queue_response(connection, page->status, page->response);
  http_page_release(page);
  return result;
}

/// True for localhost and for addresses, with or without a port: what no name that another site owns can resolve to. A browser always sends a Host,
/// and lets no page choose it; who sends none is not a browser.
static bool host_is_ours(const char *host) {
  if (host == NULL) return true;
  char text[INET6_ADDRSTRLEN];
  uint8_t address[16];
  if (host[0] == '[') {
    const char *end = strchr(host, ']');
    if (end == NULL || (end[1] != '\0' && end[1] != ':') || (size_t)(end - host) > sizeof text) return false;
    memcpy(text, host + 1, (size_t)(end - host) - 1);
    text[end - host - 1] = '\0';
    return inet_pton(AF_INET6, text, address) == 1;
  }
  size_t length = strcspn(host, ":");
  if (length == 9 && strncasecmp(host, "localhost", 9) == 0) return true;
  if (length >= sizeof text) return false;
  memcpy(text, host, length);
  text[length] = '\0';
  return inet_pton(AF_INET, text, address) == 1;
}

static enum MHD_Result answer(http_server *server, struct MHD_Connection *connection, const http_connection *slot, const char *url) {
  if (strcmp(url, "/-/healthy") == 0 || strcmp(url, "/-/ready") == 0) return answer_probe(server, connection, url);
  if (slot->guards_host && !http_guard_has_users(server->guard)
      && !host_is_ours(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST))) {
    atomic_fetch_add(&server->misdirected, 1);
    return answer_fixed(server, connection, MHD_HTTP_MISDIRECTED_REQUEST, HTTP_FIXED_MISDIRECTED);
  }
  if (http_guard_has_users(server->guard)) {
    const char *authorization = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    switch (http_guard_check(server->guard, authorization, slot->peer)) {
    case HTTP_AUTH_GRANTED:
      break;
    case HTTP_AUTH_DENIED:
      atomic_fetch_add(&server->unauthorized, 1);
      return answer_fixed(server, connection, MHD_HTTP_UNAUTHORIZED, HTTP_FIXED_UNAUTHORIZED);
    case HTTP_AUTH_LATER:
      atomic_fetch_add(&server->unauthorized, 1);
      return answer_fixed(server, connection, MHD_HTTP_TOO_MANY_REQUESTS, HTTP_FIXED_TOO_MANY);
    }
  }
  return answer_page(server, connection, slot, url);
}

/// MHD calls it after the headers with `*state` NULL, for each piece of a body, and at the end with `*upload_size` 0.
/// `*state` counts the body's bytes, plus one.
enum MHD_Result http_answer(
  void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *upload,
  size_t *upload_size, void **state) {
  (void)version;
  (void)upload;
  http_server *server = context;
  const http_connection *slot = connection_slot(connection);
  if (slot == NULL) return MHD_NO;
  if (*state == NULL) {
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
      return answer_fixed(server, connection, MHD_HTTP_METHOD_NOT_ALLOWED, HTTP_FIXED_METHOD);
    }
    *state = (void *)(uintptr_t)1;
    return MHD_YES;
  }
  if (*upload_size > 0) {
    if (*upload_size > UPLOAD_LIMIT || (uintptr_t)*state + *upload_size > UPLOAD_LIMIT) return MHD_NO;
    *state = (void *)((uintptr_t)*state + *upload_size);
    *upload_size = 0;
    return MHD_YES;
  }
  return answer(server, connection, slot, url);
}

void http_answered(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code) {
  (void)context;
  *state = NULL;
  http_connection *slot = connection_slot(connection);
  if (slot != NULL && code == MHD_REQUEST_TERMINATED_COMPLETED_OK) slot->since = http_now();
}
