// Shared memory, children and their life.
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "generator.h"

int64_t monotonic_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint32_t pair_limit(const struct racegen *g, enum racegen_scenario scenario) {
  return scenario == RACEGEN_ORDINARY ? g->config.ordinary_pairs : g->config.max_pairs;
}

struct racegen *racegen_open(const struct racegen_config *config) {
  struct racegen *g = calloc(1, sizeof *g);
  if (!g) return NULL;
  g->config = *config;
  g->parent = getpid();
  size_t count = 2 * ((size_t)config->ordinary_pairs + 3 * (size_t)config->max_pairs);
  if (FIRST_PORT + count / 2 > 65535) {
    free(g);
    errno = ERANGE;
    return NULL;
  }
  size_t header = (sizeof(struct shared) + 63) & ~(size_t)63;
  g->shared_size = header + count * sizeof(struct racegen_query);
  void *memory = mmap(NULL, g->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || pipe2(g->life, O_CLOEXEC) != 0) {
    int error = errno;
    if (memory != MAP_FAILED) munmap(memory, g->shared_size);
    free(g);
    errno = error;
    return NULL;
  }
  g->shared = memory;
  struct racegen_query *next = (struct racegen_query *)((char *)memory + header);
  for (int s = 0; s < RACEGEN_SCENARIOS; s++) {
    g->queries[s] = next;
    next += 2 * (size_t)pair_limit(g, (enum racegen_scenario)s);
  }
  return g;
}

void racegen_close(struct racegen *g) {
  if (!g) return;
  for (int r = 0; r < RACEGEN_ROLES; r++)
    if (g->pid[r] > 0) kill(g->pid[r], SIGKILL);
  for (int r = 0; r < RACEGEN_ROLES; r++)
    if (g->pid[r] > 0) while (waitpid(g->pid[r], NULL, 0) < 0 && errno == EINTR) {}
  close(g->life[0]);
  close(g->life[1]);
  munmap(g->shared, g->shared_size);
  free(g);
}

int racegen_enter_namespace(void) {
  if (unshare(CLONE_NEWNET) != 0) return -errno;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
  int result = ioctl(fd, SIOCSIFFLAGS, &request) == 0 ? 0 : -errno;
  close(fd);
  return result;
}

void fail_child(struct racegen *g, enum racegen_role role, int error) {
  atomic_store(&g->shared->failure[role], error ? error : EIO);
  _exit(1);
}

static _Noreturn void child_main(struct racegen *g, enum racegen_role role, const char *ip, const char *script) {
  // A parent that is killed takes its children, and with them their namespaces and links, along.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != g->parent) _exit(1);
  signal(SIGINT, SIG_IGN);
  close(g->life[1]);
  int error = racegen_enter_namespace();
  if (error) fail_child(g, role, -error);
  atomic_store(&g->shared->ready[role], 1);
  while (!atomic_load(&g->shared->linked)) {
    if (getppid() != g->parent) _exit(1);
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
  const char *arguments[] = {ip, "-batch", "-", NULL};
  char output[512];
  int status = racegen_run(ip, arguments, script, output, sizeof output);
  if (status != 0) fail_child(g, role, status < 0 ? -status : ENETDOWN);
  if (role >= RACEGEN_SERVER_1) server_main(g, role);
  client_main(g, role);
}

// Waits until each child has set its flag, one has failed, or ten seconds have passed.
static int await_all(struct racegen *g, const _Atomic int *flags) {
  for (int64_t end = monotonic_now() + 10000000000; monotonic_now() < end;) {
    enum racegen_role role;
    int error = racegen_failure(g, &role);
    if (error) return error;
    int missing = 0;
    for (int r = 0; r < RACEGEN_ROLES; r++) missing += !atomic_load(&flags[r]);
    if (!missing) return 0;
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
  return -ETIMEDOUT;
}

int racegen_fork(struct racegen *g, const char *ip, const char *const *scripts) {
  for (int r = 0; r < RACEGEN_ROLES; r++) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid == 0) child_main(g, (enum racegen_role)r, ip, scripts[r]);
    g->pid[r] = pid;
  }
  return await_all(g, g->shared->ready);
}

pid_t racegen_pid(const struct racegen *g, enum racegen_role role) { return g->pid[role]; }

int racegen_configure(struct racegen *g) {
  atomic_store(&g->shared->linked, 1);
  return await_all(g, g->shared->configured);
}

void racegen_start(struct racegen *g, enum racegen_scenario scenario) {
  atomic_store(&g->shared->scenario[scenario].started_at, monotonic_now());
  atomic_store(&g->shared->scenario[scenario].started, 1);
}

int racegen_sent(const struct racegen *g, enum racegen_scenario scenario) {
  const struct scenario_state *state = &g->shared->scenario[scenario];
  return atomic_load(&state->stopped) && monotonic_now() - atomic_load(&state->stopped_at) >= 200000000;
}

int racegen_finished(const struct racegen *g, enum racegen_scenario scenario) {
  const struct scenario_state *state = &g->shared->scenario[scenario];
  if (!racegen_sent(g, scenario)) return 0;
  for (int c = 0; c < CLIENTS; c++)
    if (!atomic_load(&state->settled[c])) return 0;
  return 1;
}

int racegen_failure(struct racegen *g, enum racegen_role *role) {
  for (int r = 0; r < RACEGEN_ROLES; r++) {
    *role = (enum racegen_role)r;
    int error = atomic_load(&g->shared->failure[r]);
    if (error) return -error;
    if (g->pid[r] > 0 && waitpid(g->pid[r], NULL, WNOHANG) == g->pid[r]) {
      g->pid[r] = 0;
      error = atomic_load(&g->shared->failure[r]);
      atomic_store(&g->shared->failure[r], error ? error : ECHILD);
      return error ? -error : -ECHILD;
    }
  }
  return 0;
}

uint32_t racegen_pairs(const struct racegen *g, enum racegen_scenario scenario) { return atomic_load(&g->shared->scenario[scenario].pairs); }

int64_t racegen_duration(const struct racegen *g, enum racegen_scenario scenario) {
  return atomic_load(&g->shared->scenario[scenario].stopped_at) - atomic_load(&g->shared->scenario[scenario].started_at);
}

struct racegen_query racegen_query_at(const struct racegen *g, enum racegen_scenario scenario, uint32_t index) {
  return g->queries[scenario][index];
}

int racegen_cpus(int *out, int capacity) {
  cpu_set_t cpus;
  int count = 0;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET(cpu, &cpus)) continue;
    if (count < capacity) out[count] = cpu;
    count++;
  }
  return count;
}
