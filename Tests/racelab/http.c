/* One HTTP/1.1 GET, body to standard output: the agent listens inside a namespace that the tests are not in. */
#include "lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

int command_http(int argc, char **argv) {
  struct endpoint server;
  if (argc < 3 || argc > 5 || !endpoint_parse_with_port(argv[1], &server)) usage("racelab http ADDR:PORT PATH [ACCEPT [HEADER]]");
  int fd = socket(server.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct timeval limit = {.tv_sec = 5};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (fd < 0 || connect(fd, (struct sockaddr *)&server.address, server.length)) die("connect to %s", argv[1]);
  char request[2048];
  int length = snprintf(
      request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\nAccept: %s\r\n%s%sConnection: close\r\n\r\n", argv[2], argv[1], argc >= 4 ? argv[3] : "*/*",
      argc == 5 ? argv[4] : "", argc == 5 ? "\r\n" : "");
  if (length < 0 || (size_t)length >= sizeof request || write(fd, request, (size_t)length) != length) die("ask for %s", argv[2]);
  size_t capacity = 1 << 16, filled = 0;
  char *page = malloc(capacity + 1);
  for (ssize_t got; page && (got = read(fd, page + filled, capacity - filled)) > 0;) {
    filled += (size_t)got;
    if (filled == capacity) page = realloc(page, (capacity *= 2) + 1);
  }
  if (!page) die("hold the page");
  page[filled] = 0;
  int status = 0;
  char *body = strstr(page, "\r\n\r\n");
  if (sscanf(page, "HTTP/%*s %d", &status) != 1 || !body) {
    fprintf(stderr, "racelab: %s sent no HTTP answer\n", argv[1]);
    return 1;
  }
  body += 4;
  fwrite(body, 1, filled - (size_t)(body - page), stdout);
  if (status == 200) return 0;
  fprintf(stderr, "racelab: status %d\n", status);
  return 3;
}
