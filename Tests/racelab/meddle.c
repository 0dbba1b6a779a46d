/* Takes hold of another process's conntrack sockets and makes them worse, as an overloaded or broken machine would: what a program does about it
 * cannot be had otherwise without options that only tests use. */
#include "lab.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, level, name, &value, &length) ? -1 : value;
}

/* True if events are subscribed to on it: the others ask and are answered. */
static bool hears_events(int fd) {
  unsigned groups[4] = {0};
  socklen_t length = sizeof groups;
  if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &length)) return false;
  return groups[0] | groups[1] | groups[2] | groups[3];
}

/* A copy of descriptor `number` of the process if it is a ctnetlink socket of the kind wanted; else -1. */
static int take(int process, int number, bool wants_events) {
  int fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);
  if (fd < 0) return -1;
  if (option_of(fd, SOL_SOCKET, SO_DOMAIN) == AF_NETLINK && option_of(fd, SOL_SOCKET, SO_PROTOCOL) == NETLINK_NETFILTER &&
      hears_events(fd) == wants_events)
    return fd;
  close(fd);
  return -1;
}

int command_meddle(int argc, char **argv) {
  int pid = 0, bytes = 0;
  bool deafens = false;
  for (int i = 1; i < argc; i++) {
    if (!strcmp(argv[i], "--pid")) pid = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--event-buffer")) bytes = atoi(option_value(argc, argv, &i));
    else if (!strcmp(argv[i], "--deafen-requests")) deafens = true;
    else pid = -1;
  }
  if (pid <= 0 || (bytes > 0) == deafens)
    usage("racelab meddle --pid N --event-buffer BYTES | --deafen-requests\n"
          "  the receive buffer of its socket for conntrack events; or no answer reaches its socket for requests any more");
  int process = (int)syscall(SYS_pidfd_open, pid, 0), changed = 0;
  if (process < 0) die("open process %d", pid);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", pid);
  DIR *descriptors = opendir(path);
  if (!descriptors) die("list the descriptors of %d", pid);
  for (struct dirent *entry; (entry = readdir(descriptors));) {
    if (entry->d_name[0] == '.') continue;
    int fd = take(process, atoi(entry->d_name), bytes > 0);
    if (fd < 0) continue;
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &nothing};
    int failed = deafens ? setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program)
                         : setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    if (failed) die("change descriptor %s", entry->d_name);
    changed++;
    close(fd);
  }
  closedir(descriptors);
  printf("changed %d\n", changed);
  return changed == 1 ? 0 : 1;
}
