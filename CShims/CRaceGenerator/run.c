// Touches the system around: runs a program to its end, writes a sysctl of the private namespace.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CRaceGenerator.h"

static _Noreturn void become(const char *path, const char *const *arguments, int input, int output) {
  dup2(input, 0);
  dup2(output, 1);
  dup2(output, 2);
  signal(SIGPIPE, SIG_DFL);
  execv(path, (char *const *)arguments);
  _exit(127);
}

// Feeds the input and collects the output until the program closes its end. The caller's SIGPIPE is not provoked: a closed reader ends the feeding.
static void exchange(int input, const char *text, int output, char *out, unsigned capacity) {
  size_t left = strlen(text);
  unsigned used = 0;
  fcntl(input, F_SETFL, O_NONBLOCK);
  for (;;) {
    struct pollfd polled[2] = {{.fd = output, .events = POLLIN}, {.fd = input, .events = POLLOUT}};
    if (poll(polled, 2, -1) < 0) {
      if (errno == EINTR) continue;
      break;
    }
    if (input >= 0 && polled[1].revents) {
      ssize_t sent = polled[1].revents & POLLERR ? -1 : write(input, text, left);
      if (sent > 0) {
        text += sent;
        left -= (size_t)sent;
      }
      if (left == 0 || (sent < 0 && errno != EAGAIN)) {
        close(input);
        input = -1;
      }
    }
    if (polled[0].revents) {
      char scratch[512];
      ssize_t got = read(output, scratch, sizeof scratch);
      if (got <= 0) break;
      for (ssize_t n = 0; n < got && used + 1 < capacity; n++) out[used++] = scratch[n];
    }
  }
  if (input >= 0) close(input);
  if (capacity) out[used] = 0;
}

int racegen_run(const char *path, const char *const *arguments, const char *input, char *output, unsigned capacity) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0) return -errno;
  if (pipe2(out, O_CLOEXEC) != 0) {
    int error = errno;
    close(in[0]);
    close(in[1]);
    return -error;
  }
  pid_t pid = fork();
  if (pid == 0) become(path, arguments, in[0], out[1]);
  int error = errno;
  close(in[0]);
  close(out[1]);
  if (pid < 0) {
    close(in[1]);
    close(out[0]);
    return -error;
  }
  struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
  sigaction(SIGPIPE, &ignore, &before);
  exchange(in[1], input, out[0], output, capacity);
  sigaction(SIGPIPE, &before, NULL);
  close(out[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int write_once(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int result = write(fd, text, strlen(text)) < 0 ? -errno : 0;
  close(fd);
  return result;
}

int racegen_write(const char *path, const char *text) {
  int result = write_once(path, text);
  if (result != -EROFS) return result;
  // Containers often show /proc/sys read-only; here only this process's own view of it changes.
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return -errno;
  if (mount("none", "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL) != 0) return -errno;
  return write_once(path, text);
}
