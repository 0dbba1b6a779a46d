// What Swift cannot import from Linux: variadic calls, macros, atomics on mapped memory, packed structures. No policy, no logging.
// Every function that can fail returns the negated errno.
#pragma once

#include "CLinuxCapabilities.h"
#include "CLinuxEvents.h"
#include "CLinuxPacketRing.h"
#include "CLinuxRoute.h"
