#include "http_internal.h"

#include <crypt.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// bcrypt is slow by design and runs beside every other connection: failing attempts share a tenth of a core, after a burst of half a second.
#define ATTEMPT_BURST_NS 500000000LL
#define ATTEMPT_SHARE 10
// One failing peer must not spend what is left for the others.
#define ATTEMPT_PAUSE_NS 1000000000LL

enum {
  BCRYPT_LENGTH = 60,
  BCRYPT_KEY = 72,       // bytes of a password that bcrypt looks at
  CREDENTIALS_LIMIT = 512,
  DIGEST_SIZE = 32,
  FAILED_PEERS = 64,
};

typedef struct {
  char *name;
  char hash[BCRYPT_LENGTH + 1];
  bool known;                   // `digest` is of the password that bcrypt accepted
  uint8_t digest[DIGEST_SIZE];
} guard_user;

struct http_guard {
  struct MHD_Daemon *daemon;
  char *certificate, *key, *client_ca;
  size_t user_count;
  guard_user *users;
  struct crypt_data *crypt;
  uint8_t secret[DIGEST_SIZE];
  int64_t allowance, refilled; // ns
  struct {
    http_peer peer;
    int64_t until;
  } failed[FAILED_PEERS];
  char log[256]; // MHD's last complaint while it starts
};

static void keep_log(void *context, const char *format, va_list arguments) {
  http_guard *guard = context;
  vsnprintf(guard->log, sizeof guard->log, format, arguments);
  guard->log[strcspn(guard->log, "\n")] = '\0';
}

static void free_secret(char *text) {
  if (text == NULL) return;
  explicit_bzero(text, strlen(text));
  free(text);
}

void http_guard_free(http_guard *guard) {
  if (guard == NULL) return;
  if (guard->daemon != NULL) MHD_stop_daemon(guard->daemon);
  for (size_t i = 0; i < guard->user_count; i++) free(guard->users[i].name);
  free(guard->users);
  free(guard->crypt);
  free(guard->certificate);
  free_secret(guard->key);
  free(guard->client_ca);
  explicit_bzero(guard, sizeof *guard);
  free(guard);
}

/// GnuTLS names what is wrong; MHD only logs that something is.
static int check_certificates(const http_security *security, char *reason, size_t reason_size) {
  gnutls_certificate_credentials_t credentials;
  if (gnutls_certificate_allocate_credentials(&credentials) < 0) return ENOMEM;
  int result = 0;
  gnutls_datum_t certificate = {(unsigned char *)security->certificate, (unsigned)strlen(security->certificate)};
  gnutls_datum_t key = {(unsigned char *)security->key, (unsigned)strlen(security->key)};
  int code = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key, GNUTLS_X509_FMT_PEM);
  if (code < 0) {
    snprintf(reason, reason_size, "certificate and key: %s", gnutls_strerror(code));
    result = EINVAL;
  } else if (security->client_ca != NULL) {
    gnutls_datum_t ca = {(unsigned char *)security->client_ca, (unsigned)strlen(security->client_ca)};
    code = gnutls_certificate_set_x509_trust_mem(credentials, &ca, GNUTLS_X509_FMT_PEM);
    if (code <= 0) {
      snprintf(reason, reason_size, "client CA: %s", code < 0 ? gnutls_strerror(code) : "no certificate in it");
      result = EINVAL;
    }
  }
  gnutls_certificate_free_credentials(credentials);
  return result;
}

static int copy_users(http_guard *guard, const http_security *security, char *reason, size_t reason_size) {
  if (security->user_count > HTTP_MAX_USERS) {
    snprintf(reason, reason_size, "more than %d users", HTTP_MAX_USERS);
    return EINVAL;
  }
  if (security->user_count == 0) return 0;
  guard->users = calloc(security->user_count, sizeof *guard->users);
  guard->crypt = calloc(1, sizeof *guard->crypt);
  if (guard->users == NULL || guard->crypt == NULL) return ENOMEM;
  for (size_t i = 0; i < security->user_count; i++) {
    guard_user *user = &guard->users[i];
    const char *hash = security->users[i].hash;
    if (strlen(hash) != BCRYPT_LENGTH || strncmp(hash, "$2", 2) != 0 || crypt_checksalt(hash) != CRYPT_SALT_OK) {
      snprintf(reason, reason_size, "user %.64s: not a bcrypt hash", security->users[i].name);
      return EINVAL;
    }
    user->name = strdup(security->users[i].name);
    if (user->name == NULL) return ENOMEM;
    guard->user_count = i + 1;
    memcpy(user->hash, hash, BCRYPT_LENGTH);
  }
  return 0;
}

/// One daemon for every listener: it owns no socket, http_server.c accepts for it.
static int start_daemon(http_guard *guard, http_server *server, const http_security *security) {
  struct MHD_OptionItem tls[5] = {{MHD_OPTION_END, 0, NULL}};
  unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
  if (security->certificate != NULL) {
    flags |= MHD_USE_TLS;
    const char *priorities = security->tls13_only ? "NORMAL:-VERS-ALL:+VERS-TLS1.3" : "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
    int count = 0;
    tls[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, guard->certificate};
    tls[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, guard->key};
    tls[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)priorities};
    if (guard->client_ca != NULL) tls[count++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_TRUST, 0, guard->client_ca};
    tls[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
  }
  // Two above our own limit: that one is kept by eviction in http_server.c, and MHD must never be the one to refuse.
  guard->daemon = MHD_start_daemon(
    flags, 0, NULL, NULL, http_answer, server,
    MHD_OPTION_EXTERNAL_LOGGER, keep_log, guard,
    MHD_OPTION_CONNECTION_LIMIT, server->limits.connections + 2,
    MHD_OPTION_CONNECTION_TIMEOUT, server->limits.inactivity_seconds,
    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)16384,
    MHD_OPTION_NOTIFY_CONNECTION, http_connected, server,
    MHD_OPTION_NOTIFY_COMPLETED, http_answered, server,
    MHD_OPTION_ARRAY, tls,
    MHD_OPTION_END);
  return guard->daemon == NULL ? EINVAL : 0;
}

int http_guard_create(http_server *server, const http_security *security, http_guard **out, char *reason, size_t reason_size) {
  *out = NULL;
  if (reason_size > 0) reason[0] = '\0';
  http_guard *guard = calloc(1, sizeof *guard);
  if (guard == NULL) return ENOMEM;
  guard->allowance = ATTEMPT_BURST_NS;
  guard->refilled = http_now();
  int result = copy_users(guard, security, reason, reason_size);
  if (result == 0 && guard->user_count > 0 && gnutls_rnd(GNUTLS_RND_KEY, guard->secret, sizeof guard->secret) < 0) result = EIO;
  if (result == 0 && security->certificate != NULL) {
    guard->certificate = strdup(security->certificate);
    guard->key = strdup(security->key);
    if (security->client_ca != NULL) guard->client_ca = strdup(security->client_ca);
    bool copied = guard->certificate != NULL && guard->key != NULL && (security->client_ca == NULL || guard->client_ca != NULL);
    result = copied ? check_certificates(security, reason, reason_size) : ENOMEM;
  }
  if (result == 0) {
    result = start_daemon(guard, server, security);
    if (result != 0) snprintf(reason, reason_size, "%s", guard->log[0] != '\0' ? guard->log : "libmicrohttpd does not start");
  }
  if (result != 0) {
    http_guard_free(guard);
    return result;
  }
  *out = guard;
  return 0;
}

struct MHD_Daemon *http_guard_daemon(const http_guard *guard) { return guard->daemon; }

bool http_guard_has_users(const http_guard *guard) { return guard->user_count > 0; }

bool http_guard_demand_certificate(const http_guard *guard, struct MHD_Connection *connection) {
  if (guard->client_ca == NULL) return true;
  const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
  if (info == NULL || info->tls_session == NULL) return false;
  gnutls_session_t session = info->tls_session;
  gnutls_typed_vdata_st purpose = {GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0};
  // MHD itself only asks for a certificate and takes any or none.
  gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
  gnutls_session_set_verify_cert2(session, &purpose, 1, 0);
  return true;
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// Decodes base64 (RFC 4648 4) and terminates it. False if it is malformed, has a zero byte, or does not fit.
static bool decode_base64(const char *text, char *out, size_t size) {
  size_t length = 0;
  uint32_t bits = 0;
  int count = 0;
  for (; *text != '\0' && *text != '=' && *text != ' '; text++) {
    int value = base64_value(*text);
    if (value < 0) return false;
    bits = (bits << 6 | (uint32_t)value) & 0xFFFFFF;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    char byte = (char)(bits >> count & 0xFF);
    if (byte == '\0' || length + 1 >= size) return false;
    out[length++] = byte;
  }
  out[length] = '\0';
  return text[strspn(text, "= ")] == '\0';
}

static bool equal_in_constant_time(const void *a, const void *b, size_t size) {
  const volatile uint8_t *x = a, *y = b;
  uint8_t difference = 0;
  for (size_t i = 0; i < size; i++) difference |= x[i] ^ y[i];
  return difference == 0;
}

static bool attempt_allowed(http_guard *guard, http_peer peer, int64_t now) {
  int64_t refill = (now - guard->refilled) / ATTEMPT_SHARE;
  guard->refilled = now;
  guard->allowance = refill > ATTEMPT_BURST_NS - guard->allowance ? ATTEMPT_BURST_NS : guard->allowance + refill;
  if (guard->allowance <= 0) return false;
  for (int i = 0; i < FAILED_PEERS; i++) {
    if (guard->failed[i].until > now && guard->failed[i].peer.high == peer.high && guard->failed[i].peer.low == peer.low) return false;
  }
  return true;
}

static void note_failure(http_guard *guard, http_peer peer, int64_t now, int64_t spent) {
  guard->allowance -= spent;
  int oldest = 0;
  for (int i = 1; i < FAILED_PEERS; i++) {
    if (guard->failed[i].until < guard->failed[oldest].until) oldest = i;
  }
  guard->failed[oldest].peer = peer;
  guard->failed[oldest].until = now + ATTEMPT_PAUSE_NS;
}

/// Runs bcrypt. An unknown name costs as much as a known one, so that time does not tell them apart.
static bool password_matches(http_guard *guard, const guard_user *user, const char *password) {
  const char *expected = user != NULL ? user->hash : guard->users[0].hash;
  const char *computed = crypt_r(password, expected, guard->crypt);
  return computed != NULL && strlen(computed) == BCRYPT_LENGTH && equal_in_constant_time(computed, expected, BCRYPT_LENGTH) && user != NULL;
}

static int64_t thread_time(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

http_auth http_guard_check(http_guard *guard, const char *authorization, http_peer peer) {
  char credentials[CREDENTIALS_LIMIT];
  if (authorization == NULL || strncasecmp(authorization, "Basic ", 6) != 0) return HTTP_AUTH_DENIED;
  authorization += 6;
  authorization += strspn(authorization, " ");
  if (!decode_base64(authorization, credentials, sizeof credentials)) return HTTP_AUTH_DENIED;
  char *password = strchr(credentials, ':');
  if (password == NULL) return HTTP_AUTH_DENIED;
  *password++ = '\0';
  if (strlen(password) > BCRYPT_KEY) password[BCRYPT_KEY] = '\0';

  guard_user *user = NULL;
  for (size_t i = 0; i < guard->user_count; i++) {
    if (strcmp(guard->users[i].name, credentials) == 0) user = &guard->users[i];
  }
  uint8_t digest[DIGEST_SIZE];
  bool digested = gnutls_hmac_fast(GNUTLS_MAC_SHA256, guard->secret, sizeof guard->secret, password, strlen(password), digest) == 0;
  http_auth result;
  if (digested && user != NULL && user->known && equal_in_constant_time(digest, user->digest, DIGEST_SIZE)) {
    result = HTTP_AUTH_GRANTED;
  } else if (!attempt_allowed(guard, peer, http_now())) {
    result = HTTP_AUTH_LATER;
  } else {
    int64_t began = thread_time();
    if (password_matches(guard, user, password)) {
      user->known = digested;
      memcpy(user->digest, digest, DIGEST_SIZE);
      result = HTTP_AUTH_GRANTED;
    } else {
      note_failure(guard, peer, http_now(), thread_time() - began);
      result = HTTP_AUTH_DENIED;
    }
  }
  explicit_bzero(credentials, sizeof credentials);
  return result;
}
