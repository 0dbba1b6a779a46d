// Bytes of a slot of the ring. An IPv6 entry's message has 232, with a mark, a zone, labels and a security context some 340; what is longer comes through
// the socket. With libbpf's header a slot is six cache lines.
#pragma once
enum { CONNTRACK_RING_SLOT = 376, CONNTRACK_RING_HEADER = 8, CONNTRACK_RING_BYTES = 1 << 20 };
