#pragma once
#include <stdint.h>

/// Calls of malloc, calloc, realloc and aligned_alloc that the calling thread made since it was started, in the whole test process.
uint64_t allocation_count(void);
