// rtnetlink: links, addresses and default routes as plain records.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
	CLINUX_LINK_NEW = 1,
	CLINUX_LINK_DELETED,
	CLINUX_ADDRESS_NEW,
	CLINUX_ADDRESS_DELETED,
	CLINUX_DEFAULT_ROUTE_NEW,
	CLINUX_DEFAULT_ROUTE_DELETED,
	// The end of a dump.
	CLINUX_DONE,
	// NLMSG_ERROR; `error` holds the errno.
	CLINUX_FAILED,
	// A message that says nothing of interest.
	CLINUX_SKIPPED,
	// A message whose attributes do not fit into it.
	CLINUX_MALFORMED,
};

enum { CLINUX_ROUTE_OUTPUTS = 64, CLINUX_NAME_SIZE = 16 };
// ARPHRD_ETHER, IFF_LOOPBACK and IFF_UP: the headers that name them clash with one another.
enum { CLINUX_HARDWARE_ETHER = 1, CLINUX_FLAG_LOOPBACK = 8, CLINUX_FLAG_UP = 1 };

struct clinux_route_record {
	uint8_t event;
	// NLM_F_DUMP_INTR: the table changed during the dump.
	uint8_t interrupted;
	uint32_t sequence;
	int32_t error;
	// The device that a link or address message is about.
	uint32_t interface;
	// Links.
	uint32_t flags;
	uint32_t master;
	uint16_t hardware_type;
	char name[CLINUX_NAME_SIZE + 1];
	char kind[32];
	// Addresses: 4 or 6, network order.
	uint8_t family;
	uint8_t address[16];
	// Default routes of the main table: the devices that they leave by.
	uint32_t output_count;
	uint32_t outputs[CLINUX_ROUTE_OUTPUTS];
};

enum { CLINUX_DUMP_LINKS, CLINUX_DUMP_ADDRESSES, CLINUX_DUMP_ROUTES_V4, CLINUX_DUMP_ROUTES_V6 };

// A socket for dumps; a receive waits at most a second.
int clinux_route_requests_open(void);
// A non-blocking socket for notifications. Routes other than default ones are refused in the kernel.
int clinux_route_events_open(uint32_t buffer_size);
int clinux_route_request(int descriptor, int dump, uint32_t sequence);
// One datagram from the kernel: its length, 0 where nothing waits, -ENOBUFS where notifications were lost.
int clinux_route_receive(int descriptor, void *buffer, size_t capacity);
// Reads the message at `*offset` and moves on. False at the end of the datagram.
int clinux_route_next(const void *buffer, size_t length, size_t *offset, struct clinux_route_record *record);
