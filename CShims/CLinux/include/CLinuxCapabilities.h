// Capabilities of the calling thread, by libcap-ng.
#pragma once

#include <stdint.h>

// Bit n is capability n.
int clinux_capabilities_effective(uint64_t *effective);
// Gives up all but `keep`, in every set, the bounding set where CAP_SETPCAP allows. What the thread lacks is not asked for.
int clinux_capabilities_keep(uint64_t keep);
int clinux_forbid_new_privileges(void);
