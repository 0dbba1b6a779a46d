#pragma once
#include "include/CMicroHTTPD.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

/// One rendered page. MHD's response is itself counted, so a reader holds it for as long as it drains.
typedef struct {
  atomic_uint references;
  int64_t rendered; // ns
  unsigned status;
  struct MHD_Response *response;
} http_page;

typedef struct {
  char path[HTTP_MAX_PATH + 1];
  http_page *variants[HTTP_VARIANTS];
} http_path;

/// Answers that never change.
typedef enum {
  HTTP_FIXED_OK,
  HTTP_FIXED_STALLED,
  HTTP_FIXED_NOT_READY,
  HTTP_FIXED_NOT_RENDERED,
  HTTP_FIXED_UNAUTHORIZED,
  HTTP_FIXED_TOO_MANY,
  HTTP_FIXED_NOT_FOUND,
  HTTP_FIXED_METHOD,
  HTTP_FIXED_MISDIRECTED,
  HTTP_FIXED_BAD_FLOW,
  HTTP_FIXED_BUSY,
  HTTP_FIXED_RATE,
  HTTP_FIXED_COUNT,
} http_fixed;

/// Who a connection counts for: an IPv4 address (v4-mapped) or an IPv6 /64, since one host owns all of that.
typedef struct {
  uint64_t high, low;
} http_peer;

typedef struct {
  int fd; // -1: free
  int scope;
  bool guards_host; // serves everything on loopback: only under a name that no other site can point here
  http_peer peer;
  int64_t since; // ns: accepted, or answered last
} http_connection;

/// Users, certificates and the MHD daemon made with them. Belongs to the server's thread once handed over.
typedef struct http_guard http_guard;

struct http_server {
  // Set before the thread starts, constant after.
  http_limits limits;
  http_negotiate negotiate;
  int epoll_fd;
  int wake_fd;
  size_t listener_count;
  struct {
    int fd;
    int scope;
    bool loopback;
  } listeners[HTTP_MAX_LISTENERS];
  struct MHD_Response *fixed[HTTP_FIXED_COUNT];
  pthread_t thread;
  bool started;

  int ask_fd;

  // Shared.
  pthread_mutex_t mutex;
  pthread_cond_t published;
  bool asked_in_vain; // a request waited for a page and got none; until one is published nobody waits
  size_t path_count;
  http_path paths[HTTP_MAX_PAGES];
  http_guard *next_guard;
  atomic_bool stopping;
  atomic_bool ready;
  atomic_int_fast64_t heartbeat;
  atomic_uint_fast64_t connections, accepted, evicted, expired, refused, requests, unauthorized, misdirected;

  // One lookup at a time, behind the mutex too; http_lookups.c.
  bool lookups_ready;
  int lookup_fd;
  pthread_cond_t answered;
  http_lookup lookup;
  bool lookup_waits;
  uint64_t lookup_tickets;
  uint64_t lookup_answered;
  struct MHD_Response *lookup_response;
  unsigned lookup_status;

  // The server thread's own.
  int64_t lookup_credit;  // ns
  int64_t lookup_time;    // when the credit was reckoned
  int64_t lookup_refused; // the caller did not answer at this time; 0: it did
  http_guard *guard;
  bool listening;
  int64_t resume; // when to accept again, while not listening
  int64_t swept;
  http_connection slots[];
};

int64_t http_now(void);

/// False: errno.
bool http_lookups_init(http_server *server);
/// Also of one that was not, or not wholly, initialised.
void http_lookups_free(http_server *server);
bool http_is_lookup(const char *url);
/// Answers /api/v1/flows/ID with what the caller's thread says of it.
enum MHD_Result http_answer_lookup(http_server *server, struct MHD_Connection *connection, const char *url);

/// What every response carries.
bool http_add_common_headers(struct MHD_Response *response, const char *content_type);
bool http_pages_init(http_server *server);
void http_pages_free(http_server *server);
/// A page with a reference for the caller, or NULL. `known` says whether the path has any page.
http_page *http_page_take(http_server *server, const char *path, int variant);
void http_page_release(http_page *page);

/// The access callback of MHD.
enum MHD_Result http_answer(
  void *context, struct MHD_Connection *connection, const char *url, const char *method, const char *version, const char *upload,
  size_t *upload_size, void **state);
void http_answered(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code);
/// The connection callback of MHD.
void http_connected(void *context, struct MHD_Connection *connection, void **slot, enum MHD_ConnectionNotificationCode code);

int http_guard_create(http_server *server, const http_security *security, http_guard **guard, char *reason, size_t reason_size);
void http_guard_free(http_guard *guard);
struct MHD_Daemon *http_guard_daemon(const http_guard *guard);
bool http_guard_has_users(const http_guard *guard);
/// Demands a certificate during the handshake where client_ca is set. False: the connection must not be served.
bool http_guard_demand_certificate(const http_guard *guard, struct MHD_Connection *connection);

typedef enum { HTTP_AUTH_GRANTED, HTTP_AUTH_DENIED, HTTP_AUTH_LATER } http_auth;
/// Judges the value of an Authorization header, which may be NULL. May run bcrypt: only on the server's thread.
http_auth http_guard_check(http_guard *guard, const char *authorization, http_peer peer);
