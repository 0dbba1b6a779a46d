/* Numeric addresses, ports, clocks, namespaces and options. */
#include "lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

bool endpoint_parse(const char *text, uint16_t port, struct endpoint *out) {
  memset(out, 0, sizeof *out);
  struct sockaddr_in *v4 = (struct sockaddr_in *)&out->address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&out->address;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    out->length = sizeof *v4;
  } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    out->length = sizeof *v6;
  } else {
    return false;
  }
  endpoint_set_port(&out->address, port);
  return true;
}

bool endpoint_parse_with_port(const char *text, struct endpoint *out) {
  char host[INET6_ADDRSTRLEN + 2];
  const char *colon = strrchr(text, ':');
  if (!colon || (size_t)(colon - text) >= sizeof host) return false;
  size_t length = (size_t)(colon - text);
  const char *start = text;
  if (length >= 2 && text[0] == '[' && text[length - 1] == ']') start++, length -= 2;
  memcpy(host, start, length);
  host[length] = 0;
  return endpoint_parse(host, (uint16_t)atoi(colon + 1), out);
}

const char *endpoint_address(const struct sockaddr_storage *address, char *buffer) {
  const void *raw = address->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                                                  : (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr;
  if (address->ss_family == 0 || !inet_ntop(address->ss_family, raw, buffer, INET6_ADDRSTRLEN)) strcpy(buffer, "-");
  return buffer;
}

/* sin_port and sin6_port share their offset. */
uint16_t endpoint_port(const struct sockaddr_storage *address) { return ntohs(((const struct sockaddr_in *)address)->sin_port); }

void endpoint_set_port(struct sockaddr_storage *address, uint16_t port) { ((struct sockaddr_in *)address)->sin_port = htons(port); }

bool endpoint_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
  if (a->ss_family != b->ss_family) return false;
  if (a->ss_family == AF_INET)
    return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
  return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr, 16);
}

static int64_t now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t now_realtime(void) { return now(CLOCK_REALTIME); }
int64_t now_monotonic(void) { return now(CLOCK_MONOTONIC); }

void sleep_until_monotonic(int64_t at) {
  struct timespec t = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) continue;
}

void enter_netns(const char *name) {
  char path[256];
  snprintf(path, sizeof path, "/run/netns/%s", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET)) die("enter %s", path);
  close(fd);
}

void raise_descriptor_limit(void) {
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void die(const char *format, ...) {
  int cause = errno;
  va_list arguments;
  va_start(arguments, format);
  fputs("racelab: ", stderr);
  vfprintf(stderr, format, arguments);
  fprintf(stderr, ": %s\n", strerror(cause));
  va_end(arguments);
  exit(1);
}

void usage(const char *text) {
  fprintf(stderr, "usage: %s\n", text);
  exit(2);
}

int split(char *text, char **parts, int capacity) {
  int count = 0;
  for (char *state, *part = strtok_r(text, ",", &state); part && count < capacity; part = strtok_r(NULL, ",", &state)) parts[count++] = part;
  return count;
}

char *option_value(int argc, char **argv, int *index) {
  if (*index + 1 >= argc) usage("an option lacks its value");
  return argv[++*index];
}
