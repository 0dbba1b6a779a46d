#pragma once
#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t is_stopping;

static void stop(int signal) {
  (void)signal;
  is_stopping = 1;
}

// SIGTERM interrupts the system call in hand.
static inline void stop_on_sigterm(void) {
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
}
