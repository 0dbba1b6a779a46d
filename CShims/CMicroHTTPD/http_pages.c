#include "http_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

http_page *http_page_take(http_server *server, const char *path, int variant) {
  http_page *page = NULL;
  pthread_mutex_lock(&server->mutex);
  http_path *entry = find_path(server, path);
  if (entry != NULL) {
    page = entry->variants[variant];
    if (page == NULL) page = entry->variants[HTTP_VARIANT_DEFAULT];
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
  }
  pthread_mutex_unlock(&server->mutex);
  http_page_release(previous);
  return entry == NULL ? ENOSPC : 0;
}
