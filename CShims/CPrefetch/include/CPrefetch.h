#pragma once
// The processor's hint to fetch memory that is needed soon. Swift has none.

/// Asks for the cache line of this address. Reads nothing and never faults, whatever the address.
static inline void prefetch_line(const void *address) { __builtin_prefetch(address); }
