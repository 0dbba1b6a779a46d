// Makes DNS queries race through connection tracking in private network namespaces, and keeps the truth about each of them in shared memory.
// The calling process becomes the node; clients and servers are forked children that run only this code and die with their parent.
// All addresses and ports are in host order, all times are nanoseconds of CLOCK_MONOTONIC. Functions return 0 or a negative errno.
#ifndef RACETRACK_CRACEGENERATOR_H
#define RACETRACK_CRACEGENERATOR_H

#include <stdint.h>
#include <sys/types.h>

enum racegen_scenario {
  // One thread, A then AAAA: nothing races.
  RACEGEN_ORDINARY,
  // Two threads of one client, one socket, one service whose two backends answer late.
  RACEGEN_LATE_REPLY,
  // Two threads of one client, one socket, two services that share a backend.
  RACEGEN_REPLY_CLASH,
  // Two clients with the same source port, one masqueraded service.
  RACEGEN_SNAT_CLASH,
  RACEGEN_SCENARIOS
};

enum racegen_role { RACEGEN_CLIENT_1, RACEGEN_CLIENT_2, RACEGEN_CLIENT_3, RACEGEN_SERVER_1, RACEGEN_SERVER_2, RACEGEN_ROLES };

// One query, as its sender, the servers and its receiver saw it. Query 2n of a scenario is the A of pair n, query 2n+1 the AAAA.
struct racegen_query {
  uint32_t client_address;
  uint32_t server_address;
  uint16_t client_port;
  uint16_t dns_id;
  uint16_t type;
  // 1 or 2: the server that received it; 0: neither did.
  uint8_t received_by;
  // 1: an answer came from another address than the one asked.
  uint8_t untranslated;
  // errno of sendto; 0 if it was sent.
  int32_t send_error;
  // 0 while not sent, while no answer came from the address asked.
  int64_t sent_at;
  int64_t answered_at;
};

struct racegen_config {
  // Pairs of each scenario at most, and in the ordinary one exactly `ordinary_pairs`.
  uint32_t max_pairs;
  uint32_t ordinary_pairs;
  // A raced scenario stops when so many of its queries are bound to be lost, or after so many seconds.
  uint32_t losses_wanted;
  uint32_t seconds;
  uint32_t pair_interval_microseconds;
  uint32_t late_milliseconds;
  // The two CPUs that the racing threads are pinned to.
  int cpu[2];
  uint32_t client_address[3];
  // The service or services of each scenario: what the A and what the AAAA query asks.
  uint32_t service_address[RACEGEN_SCENARIOS][2];
};

struct racegen;

// Maps the shared memory. NULL with errno set if that fails.
struct racegen *racegen_open(const struct racegen_config *config);
// Kills what is left of the children, waits for them and unmaps.
void racegen_close(struct racegen *g);

// Moves the calling thread into a new network namespace with loopback up.
int racegen_enter_namespace(void);
// Forks all children, each into a namespace of its own, and returns when each is there. The caller must be single-threaded.
// `ip` is the path of iproute2's ip; `scripts` has one `ip -batch` script a role. Both are copied by the fork.
int racegen_fork(struct racegen *g, const char *ip, const char *const *scripts);
pid_t racegen_pid(const struct racegen *g, enum racegen_role role);
// Tells the children that their links exist, and returns when each has configured its own and sockets are open.
int racegen_configure(struct racegen *g);

void racegen_start(struct racegen *g, enum racegen_scenario scenario);
// 1 when the last query of the scenario was sent 200 ms ago.
int racegen_sent(const struct racegen *g, enum racegen_scenario scenario);
// 1 when in addition no answer to any of its queries is waited for any more.
int racegen_finished(const struct racegen *g, enum racegen_scenario scenario);
// 0, or the negative errno that stopped a child, with its role; -ECHILD if one died.
int racegen_failure(struct racegen *g, enum racegen_role *role);

uint32_t racegen_pairs(const struct racegen *g, enum racegen_scenario scenario);
int64_t racegen_duration(const struct racegen *g, enum racegen_scenario scenario);
struct racegen_query racegen_query_at(const struct racegen *g, enum racegen_scenario scenario, uint32_t index);
// The first label of the name of a pair; the names end in `racegen_zone`. Returns its length.
int racegen_label(enum racegen_scenario scenario, uint32_t pair, char *out, unsigned capacity);
extern const char racegen_zone[];

// Fills `out` with the first CPUs that this thread may run on and returns how many there are.
int racegen_cpus(int *out, int capacity);

// Writes a text to an existing file of /proc; if that is mounted read-only, in a mount namespace of the caller's own.
int racegen_write(const char *path, const char *text);

// Runs a program with `input` as standard input, standard output and error into `output` (always terminated, cut at capacity).
// Returns its exit status, 128 + signal, or a negative errno.
int racegen_run(const char *path, const char *const *arguments, const char *input, char *output, unsigned capacity);

#endif
