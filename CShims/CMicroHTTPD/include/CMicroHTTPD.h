#pragma once
// An HTTP server on a thread of its own, over libmicrohttpd (variadic options, callbacks on a foreign thread: not for Swift to import).
// The caller's thread and the server's share only what is in struct http_server: pages behind one mutex, each immutable and reference-counted.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct http_server http_server;

enum {
  HTTP_MAX_LISTENERS = 16,
  HTTP_MAX_PAGES = 64,
  HTTP_MAX_PATH = 127,
  HTTP_MAX_USERS = 64,
  HTTP_MAX_CONNECTIONS = 1024,
  HTTP_LOOKUP_WAIT_MS = 250,
  HTTP_LOOKUPS_PER_SECOND = 10,
  HTTP_LOOKUPS_AT_ONCE = 20,
};

/// What a listener shows: /metrics and /-/ only, or every page.
enum { HTTP_SCOPE_METRICS = 0, HTTP_SCOPE_ALL = 1 };

/// The two variants of a page: served by default, and where `http_negotiate` prefers it.
enum { HTTP_VARIANT_DEFAULT = 0, HTTP_VARIANT_OPENMETRICS = 1, HTTP_VARIANTS = 2 };

/// True if the values of the request's Accept headers, joined with commas, prefer OpenMetrics. Called on the server's thread; must be pure.
typedef bool (*http_negotiate)(const uint8_t *accept, size_t length);

typedef struct {
  uint32_t connections;            // in all, at most HTTP_MAX_CONNECTIONS
  uint32_t connections_per_peer;   // for one IPv4 address or one IPv6 /64
  uint32_t inactivity_seconds;     // without a byte in either direction
  uint32_t request_milliseconds;   // from accept, or from the last answer, to the end of the next answer
  uint32_t heartbeat_milliseconds; // after which /-/healthy answers 503
  uint32_t page_milliseconds;      // age of /metrics and / beyond which a request asks for new ones; 0: served whatever their age
} http_limits;

typedef struct {
  const char *name;
  const char *hash; // bcrypt, 60 characters
} http_user;

/// Borrowed for the call. PEM texts; `certificate` NULL: no TLS. `client_ca` not NULL: a client must show a certificate that it signed.
typedef struct {
  const char *certificate;
  const char *key;
  const char *client_ca;
  bool tls13_only;
  const http_user *users;
  size_t user_count;
} http_security;

/// Counters since start, readable from any thread.
typedef struct {
  uint64_t connections;  // open now
  uint64_t accepted;
  uint64_t evicted;      // closed early because a newer one needed the place
  uint64_t expired;      // closed because one request took longer than request_milliseconds
  uint64_t refused;      // accepted and closed at once: no place could be made
  uint64_t requests;     // answered, whatever the status
  uint64_t unauthorized; // answered 401 or 429
  uint64_t misdirected;  // answered 421
} http_counters;

/// NULL only if memory or descriptors ran out (errno).
http_server *http_server_create(const http_limits *limits, http_negotiate negotiate);

/// Binds and listens. `address` is 16 bytes, IPv4 in the last four. Port 0: the kernel chooses. Only before http_server_start.
/// Returns 0 and sets `bound`, or errno.
int http_server_listen(http_server *server, const uint8_t *address, bool v4, uint16_t port, int scope, uint16_t *bound);

/// Sets certificates and users, also while the server runs: open connections are then closed. On failure the old ones stay.
/// Returns 0, or errno and a reason in `reason`.
int http_server_secure(http_server *server, const http_security *security, char *reason, size_t reason_size);

/// Starts the thread "http", which has every signal blocked. Returns 0 or errno.
int http_server_start(http_server *server);

/// Copies `body` and makes it what `path` and `variant` answer from now on; a reader of the previous body still gets all of it.
/// Returns 0, ENOSPC (HTTP_MAX_PAGES paths exist), ENAMETOOLONG or ENOMEM; the previous page then stays.
int http_server_publish(
  http_server *server, const char *path, int variant, unsigned status, const char *content_type, const uint8_t *body, size_t size);

/// Readable when a request waits for a new /metrics or /: render and publish both, in every variant, at once.
int http_server_ask_descriptor(const http_server *server);
/// True once for what was asked; the descriptor is not readable after.
bool http_server_was_asked(http_server *server);

void http_server_set_ready(http_server *server, bool ready);
/// Says that the caller's loop turns.
void http_server_heartbeat(http_server *server);
void http_server_read_counters(const http_server *server, http_counters *counters);

/// A request for /api/v1/flows/ID that waits for the caller's thread: the server's thread stands still meanwhile, HTTP_LOOKUP_WAIT_MS at most.
typedef struct {
  uint64_t ticket;
  uint64_t id;
  bool has_backend;
  uint8_t backend[16]; // an address like those of http_server_listen
  bool backend_is_v4;
} http_lookup;

/// Becomes readable when a lookup waits.
int http_server_lookup_descriptor(const http_server *server);
/// False if none waits.
bool http_server_take_lookup(http_server *server, http_lookup *lookup);
/// Copies `body`. What came too late is dropped. Returns 0 or ENOMEM.
int http_server_answer_lookup(http_server *server, uint64_t ticket, unsigned status, const uint8_t *body, size_t size);

/// Stops and joins the thread, closes everything. NULL is allowed.
void http_server_destroy(http_server *server);
