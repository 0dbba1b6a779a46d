/* Fills a conntrack table: one datagram each to the ports of a server, from one socket, so that each is a flow of its own that nobody answers. */
#include "lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_PORT 10000

int command_fill(int argc, char **argv) {
  static const char help[] = "racelab fill --from ADDR --server ADDR [--flows N] [--rate PER_SECOND]";
  const char *from = NULL, *server = NULL;
  int flows = 1000, rate = 1000, sent = 0;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--from")) from = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--server")) server = option_value(argc, argv, &i);
    else if (!strcmp(argv[i], "--flows")) flows = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--rate")) rate = atoi(option_value(argc, argv, &i));
    else usage(help);
  }
  struct endpoint local, remote;
  if (!from || !server || flows < 1 || flows > 65535 - FIRST_PORT || rate < 1) usage(help);
  if (!endpoint_parse(from, 0, &local) || !endpoint_parse(server, 0, &remote)) usage(help);
  int fd = udp_socket(&local);
  int64_t start = now_monotonic();
  for (int i = 0; i < flows; i++) {
    sleep_until_monotonic(start + (int64_t)i * 1000000000 / rate);
    endpoint_set_port(&remote.address, (uint16_t)(FIRST_PORT + i));
    // Some are dropped on their way, and the socket's buffer may be full for a moment.
    sent += sendto(fd, "", 1, 0, (struct sockaddr *)&remote.address, remote.length) == 1;
  }
  close(fd);
  printf("summary sent=%d answered=0 strayed=0\n", sent);
  return 0;
}
