#include "http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// How long a request for a page that is too old waits for a new one. No other request is served meanwhile.
#define ASK_NS 250000000LL

bool http_add_common_headers(struct MHD_Response *response, const char *content_type) {
  return MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type) == MHD_YES
    && MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES
    && MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES
    // No page loads anything; the one of HTML has a style element. No other site may frame or embed any.
    && MHD_add_response_header(
         response, "Content-Security-Policy",
         "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
      == MHD_YES
    && MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin") == MHD_YES
    && MHD_add_response_header(response, "Referrer-Policy", "no-referrer") == MHD_YES;
}

static struct MHD_Response *fixed_of_type(const char *type, const char *text, const char *header, const char *value) {
  struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), (void *)text, MHD_RESPMEM_PERSISTENT);
  if (response == NULL) return NULL;
  if (!http_add_common_headers(response, type)
      || (header != NULL && MHD_add_response_header(response, header, value) != MHD_YES)) {
    MHD_destroy_response(response);
    return NULL;
  }
  return response;
}

static struct MHD_Response *fixed_response(const char *text, const char *header, const char *value) {
  return fixed_of_type("text/plain; charset=utf-8", text, header, value);
}

static struct MHD_Response *fixed_error(const char *text, const char *header, const char *value) {
  return fixed_of_type("application/json", text, header, value);
}

bool http_pages_init(http_server *server) {
  struct MHD_Response **fixed = server->fixed;
  fixed[HTTP_FIXED_OK] = fixed_response("OK\n", NULL, NULL);
  fixed[HTTP_FIXED_STALLED] = fixed_response("the pipeline does not turn\n", NULL, NULL);
  fixed[HTTP_FIXED_NOT_READY] = fixed_response("not ready\n", NULL, NULL);
  fixed[HTTP_FIXED_NOT_RENDERED] = fixed_response("not rendered yet\n", MHD_HTTP_HEADER_RETRY_AFTER, "1");
  fixed[HTTP_FIXED_UNAUTHORIZED] = fixed_response("unauthorized\n", MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Basic realm=\"racetrack\", charset=\"UTF-8\"");
  fixed[HTTP_FIXED_TOO_MANY] = fixed_response("too many attempts\n", MHD_HTTP_HEADER_RETRY_AFTER, "1");
  fixed[HTTP_FIXED_NOT_FOUND] = fixed_response("not found\n", NULL, NULL);
  fixed[HTTP_FIXED_METHOD] = fixed_response("method not allowed\n", MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
  fixed[HTTP_FIXED_MISDIRECTED] = fixed_response("ask by IP address or as localhost\n", NULL, NULL);
  fixed[HTTP_FIXED_BAD_FLOW] =
    fixed_error("{\"error\":\"ask for /api/v1/flows/ID, sixteen hexadecimal digits, with backend=ADDRESS or nothing\"}\n", NULL, NULL);
  fixed[HTTP_FIXED_BUSY] = fixed_error("{\"error\":\"the pipeline did not answer in time\"}\n", MHD_HTTP_HEADER_RETRY_AFTER, "1");
  fixed[HTTP_FIXED_RATE] = fixed_error("{\"error\":\"too many questions about flows\"}\n", MHD_HTTP_HEADER_RETRY_AFTER, "1");
  for (int i = 0; i < HTTP_FIXED_COUNT; i++) {
    if (fixed[i] == NULL) return false;
  }
  if (!http_lookups_init(server)) return false;
  // The body of a refused method is not read, so nothing after it can be understood.
  return MHD_add_response_header(fixed[HTTP_FIXED_METHOD], MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
}

void http_pages_free(http_server *server) {
  http_lookups_free(server);
  for (size_t i = 0; i < server->path_count; i++) {
    for (int variant = 0; variant < HTTP_VARIANTS; variant++) http_page_release(server->paths[i].variants[variant]);
  }
  for (int i = 0; i < HTTP_FIXED_COUNT; i++) {
    if (server->fixed[i] != NULL) MHD_destroy_response(server->fixed[i]);
  }
}

void http_page_release(http_page *page) {
  if (page == NULL || atomic_fetch_sub(&page->references, 1) != 1) return;
  MHD_destroy_response(page->response);
  free(page);
}

static http_path *find_path(http_server *server, const char *path) {
  for (size_t i = 0; i < server->path_count; i++) {
    if (strcmp(server->paths[i].path, path) == 0) return &server->paths[i];
  }
  return NULL;
}

static http_page *current(const http_path *entry, int variant) {
  return entry->variants[variant] != NULL ? entry->variants[variant] : entry->variants[HTTP_VARIANT_DEFAULT];
}

/// Asks the caller's thread for a new rendering where the page is too old, and waits for it, for a moment: that thread may be at work, or stuck.
/// With the mutex held, which it releases while it waits.
static void refresh(http_server *server, const http_path *entry, int variant) {
  int64_t now = http_now(), limit = (int64_t)server->limits.page_milliseconds * 1000000;
  const http_page *page = current(entry, variant);
  if (limit == 0 || page == NULL || now - page->rendered <= limit || server->asked_in_vain) return;
  uint64_t one = 1;
  while (write(server->ask_fd, &one, sizeof one) < 0 && errno == EINTR) {}
  int64_t end = now + ASK_NS;
  const struct timespec until = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
  while (current(entry, variant) == page) {
    if (pthread_cond_timedwait(&server->published, &server->mutex, &until) == ETIMEDOUT) {
      server->asked_in_vain = current(entry, variant) == page;
      return;
    }
  }
}

http_page *http_page_take(http_server *server, const char *path, int variant) {
  http_page *page = NULL;
  pthread_mutex_lock(&server->mutex);
  http_path *entry = find_path(server, path);
  if (entry != NULL) {
    if (strcmp(path, "/metrics") == 0 || strcmp(path, "/") == 0) refresh(server, entry, variant);
    page = current(entry, variant);
    if (page != NULL) atomic_fetch_add(&page->references, 1);
  }
  pthread_mutex_unlock(&server->mutex);
  return page;
}

int http_server_publish(
  http_server *server, const char *path, int variant, unsigned status, const char *content_type, const uint8_t *body, size_t size) {
  if (variant < 0 || variant >= HTTP_VARIANTS) return EINVAL;
  if (strlen(path) > HTTP_MAX_PATH) return ENAMETOOLONG;
  http_page *page = calloc(1, sizeof *page);
  if (page == NULL) return ENOMEM;
  atomic_init(&page->references, 1);
  page->rendered = http_now();
  page->status = status;
  page->response = MHD_create_response_from_buffer(size, (void *)(size == 0 ? (const uint8_t *)"" : body), MHD_RESPMEM_MUST_COPY);
  if (page->response == NULL) {
    free(page);
    return ENOMEM;
  }
  if (!http_add_common_headers(page->response, content_type)) {
    http_page_release(page);
    return ENOMEM;
  }

  pthread_mutex_lock(&server->mutex);
  http_path *entry = find_path(server, path);
  if (entry == NULL && server->path_count < HTTP_MAX_PAGES) {
    entry = &server->paths[server->path_count++];
    strcpy(entry->path, path);
  }
  http_page *previous = page;
  if (entry != NULL) {
    previous = entry->variants[variant];
    entry->variants[variant] = page;
    server->asked_in_vain = false;
    pthread_cond_broadcast(&server->published);
  }
  pthread_mutex_unlock(&server->mutex);
  http_page_release(previous);
  return entry == NULL ? ENOSPC : 0;
}
