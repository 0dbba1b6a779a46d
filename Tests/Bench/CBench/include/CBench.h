#pragma once
// What the benchmark needs beside the agent: the floor that it is held to, and the load. Programs' bodies: they return an exit status.
#include <linux/filter.h>
#include <stdint.h>

// Receives the agent's events and packets and keeps nothing, until SIGTERM; then prints what it saw as `name=number` words.
//
// - Parameters:
//   - filter: the agent's packet filter, `length` instructions.
//   - has_ring: events come by the agent's event ring, and are parsed; otherwise through a socket, and are not.
int bench_floor(const struct sock_filter *filter, uint16_t length, int has_ring);

struct bench_load {
  // Queries a second, and how many.
  uint32_t rate;
  uint32_t count;
  // Host order. Sources are this address and those above it, 60,000 ports each.
  uint32_t source;
  uint32_t server;
  // Of the node's end of the link.
  uint8_t gateway[6];
  const char *device;
  // Number of the first query, so that no tuple repeats between runs.
  uint32_t first;
};

// Sends queries at a fixed rate, each from a source port of its own, and prints `sent=`, `answered=`, `nanoseconds=` that it took, and `cpu=` nanoseconds of its own CPU
// time: the kernel's work for a packet is done in its context.
int bench_send(const struct bench_load *load);

// Answers queries on an address (host order), or only counts them. Prints `received=` on SIGTERM.
int bench_respond(uint32_t address, int is_mute);
