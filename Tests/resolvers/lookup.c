/* One getaddrinfo for both families, timed. Built against glibc and, statically, against musl: the same source, two resolvers. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* lookup NAME...: the names one after the other; a line for each: name, getaddrinfo's status, seconds, addresses by family. */
int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    struct addrinfo hints, *found = NULL;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    double start = now();
    int status = getaddrinfo(argv[i], "80", &hints, &found);
    double seconds = now() - start;
    int v4 = 0, v6 = 0;
    for (struct addrinfo *info = found; info; info = info->ai_next) *(info->ai_family == AF_INET6 ? &v6 : &v4) += 1;
    printf("lookup %s status=%d seconds=%.4f a=%d aaaa=%d\n", argv[i], status, seconds, v4, v6);
    if (found) freeaddrinfo(found);
  }
  return 0;
}
