// What the parts of the generator share.
#ifndef RACETRACK_GENERATOR_H
#define RACETRACK_GENERATOR_H

#include <stdatomic.h>
#include <stddef.h>

#include "CRaceGenerator.h"

enum { CLIENTS = 3, DNS_PORT = 53, FIRST_PORT = 2048, QUERY_CAPACITY = 128 };

struct scenario_state {
  // Pairs sent so far by the leading thread, and the sequence numbers that the two threads meet at.
  _Atomic uint32_t pairs;
  _Atomic uint32_t arrived[2];
  _Atomic int started;
  _Atomic int stopped;
  _Atomic int64_t started_at;
  _Atomic int64_t stopped_at;
  // One for each client whose threads and sockets of this scenario are done.
  _Atomic int settled[CLIENTS];
};

struct shared {
  _Atomic int linked;
  _Atomic int ready[RACEGEN_ROLES];
  _Atomic int configured[RACEGEN_ROLES];
  _Atomic int failure[RACEGEN_ROLES];
  struct scenario_state scenario[RACEGEN_SCENARIOS];
};

struct racegen {
  struct racegen_config config;
  struct shared *shared;
  size_t shared_size;
  struct racegen_query *queries[RACEGEN_SCENARIOS];
  pid_t parent;
  pid_t pid[RACEGEN_ROLES];
  // Its write end is the parent's alone: end of file tells a child that the parent is gone.
  int life[2];
};

int64_t monotonic_now(void);
uint32_t pair_limit(const struct racegen *g, enum racegen_scenario scenario);
// Marks the role as failed and ends the process.
_Noreturn void fail_child(struct racegen *g, enum racegen_role role, int error);

// Both return never.
_Noreturn void client_main(struct racegen *g, enum racegen_role role);
_Noreturn void server_main(struct racegen *g, enum racegen_role role);

// DNS: writes a query and returns its length; reads scenario and index of a query (-1 if it is not one of ours); turns a query into its answer.
int write_query(uint8_t *out, enum racegen_scenario scenario, uint32_t index, uint16_t id);
int read_query(const uint8_t *data, int length, enum racegen_scenario *scenario, uint32_t *index);
int write_answer(uint8_t *out, const uint8_t *query, int length);
uint16_t query_id(enum racegen_scenario scenario, uint32_t index);

#endif
