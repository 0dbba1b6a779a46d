// epoll, timerfd, signalfd and the clocks.
#pragma once

#include <stdint.h>

enum {
	// Reported as long as the descriptor is readable.
	CLINUX_EPOLL_LEVEL = 0,
	// Reported once for each time it becomes readable (EPOLLET): a one-shot timer then needs no read.
	CLINUX_EPOLL_EDGE = 1,
	// Reported once, until it is armed again (EPOLLONESHOT).
	CLINUX_EPOLL_ONCE = 2,
};

int clinux_epoll_create(void);
// `token` is 0 to 63: the bit that clinux_epoll_wait sets.
int clinux_epoll_add(int epoll, int descriptor, uint32_t token, int mode);
int clinux_epoll_rearm(int epoll, int descriptor, uint32_t token, int mode);
int clinux_epoll_remove(int epoll, int descriptor);
// Sets a bit of `*ready` for each token that is ready. `timeout_ms` -1 waits for ever, 0 not at all. -EINTR is the caller's to retry: it knows how much
// of the time is left.
int clinux_epoll_wait(int epoll, int timeout_ms, uint64_t *ready);

// CLOCK_MONOTONIC, non-blocking.
int clinux_timer_create(void);
// First expiry after `first_ns` from now (at that time where `absolute`), then every `interval_ns`; 0 and 0 disarm.
int clinux_timer_set(int timer, int64_t first_ns, int64_t interval_ns, int absolute);

// Blocks the signals in the calling thread and opens a non-blocking signalfd for them.
int clinux_signals_open(const int *signals, int count);
// Takes one pending signal: its number, 0 where there is none.
int clinux_signals_next(int descriptor);

int64_t clinux_clock_monotonic(void);
int64_t clinux_clock_realtime(void);
