#pragma once
// Loaded with LD_PRELOAD: counts heap allocations into the file named by RACETRACK_ALLOCATIONS, two 64-bit numbers that a reader may map or read
// at any time: those of the process's first thread, and those of all others.
