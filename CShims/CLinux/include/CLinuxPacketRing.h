// AF_PACKET with TPACKET_V3 (Documentation/networking/packet_mmap.rst): set-up, and accessors for what the kernel writes into the mapping.
#pragma once

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <stddef.h>
#include <stdint.h>

// A cooked packet socket of TPACKET_V3 that receives nothing before clinux_packet_bind.
int clinux_packet_open(void);
int clinux_packet_ignore_outgoing(int descriptor);
int clinux_attach_filter(int descriptor, const struct sock_filter *program, uint16_t length);
// Asks for the ring and maps it.
int clinux_packet_map(int descriptor, uint32_t block_size, uint32_t block_count, uint32_t retire_ms, void **mapping);
void clinux_packet_unmap(void *mapping, size_t size);
// Starts to receive every protocol on every device of the namespace.
int clinux_packet_bind(int descriptor);

struct clinux_packet_statistics {
	uint32_t packets;
	uint32_t drops;
	uint32_t freezes;
};
// PACKET_STATISTICS: counted since the last call. `packets` includes `drops`.
int clinux_packet_statistics(int descriptor, struct clinux_packet_statistics *statistics);
// SO_ERROR: takes the socket's pending error (positive errno, 0 for none).
int clinux_take_error(int descriptor);

// One frame as the kernel describes it. Offsets are from the frame's header.
struct clinux_frame {
	int64_t stamp_ns;
	uint32_t next;
	uint32_t data;
	uint32_t captured;
	uint32_t length;
	uint32_t interface;
	uint16_t protocol;
	uint16_t vlan;
	uint8_t packet_type;
	// Neither left to the device nor found right by it (TP_STATUS_CSUMNOTREADY, TP_STATUS_CSUM_VALID).
	uint8_t is_checksum_open;
};

// Header and sockaddr_ll: what must lie in the block before a frame may be read.
enum { CLINUX_FRAME_HEADER = TPACKET3_HDRLEN };

static inline uint32_t clinux_block_is_owned(const void *block)
{
	const struct tpacket_block_desc *description = (const struct tpacket_block_desc *)block;
	return __atomic_load_n(&description->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

static inline void clinux_block_release(void *block)
{
	struct tpacket_block_desc *description = (struct tpacket_block_desc *)block;
	__atomic_store_n(&description->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
}

static inline uint32_t clinux_block_frames(const void *block)
{
	return ((const struct tpacket_block_desc *)block)->hdr.bh1.num_pkts;
}

static inline uint32_t clinux_block_first(const void *block)
{
	return ((const struct tpacket_block_desc *)block)->hdr.bh1.offset_to_first_pkt;
}

// Asks for three cache lines from `at` on, which may lie anywhere: never faults. Frames lie one behind the other and most take three lines.
static inline void clinux_frame_prefetch(const void *at)
{
	for (int line = 0; line < 3; line++)
		__builtin_prefetch((const uint8_t *)at + 64 * line);
}

// The fields that a walk needs, one by one.
static inline int64_t clinux_frame_stamp(const void *header)
{
	const struct tpacket3_hdr *frame = (const struct tpacket3_hdr *)header;
	return (int64_t)frame->tp_sec * 1000000000 + frame->tp_nsec;
}

static inline uint32_t clinux_frame_next(const void *header)
{
	return ((const struct tpacket3_hdr *)header)->tp_next_offset;
}

static inline uint32_t clinux_frame_data(const void *header)
{
	return ((const struct tpacket3_hdr *)header)->tp_net;
}

static inline uint32_t clinux_frame_captured(const void *header)
{
	return ((const struct tpacket3_hdr *)header)->tp_snaplen;
}

static inline struct clinux_frame clinux_frame_read(const void *header)
{
	const struct tpacket3_hdr *frame = (const struct tpacket3_hdr *)header;
	const struct sockaddr_ll *address =
		(const struct sockaddr_ll *)((const uint8_t *)header + TPACKET_ALIGN(sizeof(struct tpacket3_hdr)));
	struct clinux_frame result = {
		.stamp_ns = (int64_t)frame->tp_sec * 1000000000 + frame->tp_nsec,
		.next = frame->tp_next_offset,
		.data = frame->tp_net,
		.captured = frame->tp_snaplen,
		.length = frame->tp_len,
		.interface = (uint32_t)address->sll_ifindex,
		.protocol = ntohs(address->sll_protocol),
		.vlan = frame->tp_status & TP_STATUS_VLAN_VALID ? frame->hv1.tp_vlan_tci & 0xfff : 0,
		.packet_type = address->sll_pkttype,
		.is_checksum_open = !(frame->tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID)),
	};
	return result;
}
