#include "include/CLinuxPacketRing.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int clinux_packet_open(void)
{
	int version = TPACKET_V3;
	// Protocol 0: silent until bound, so that nothing passes before the filter is in place.
	int descriptor = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (descriptor < 0)
		return -errno;
	if (setsockopt(descriptor, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0) {
		int error = errno;
		close(descriptor);
		return -error;
	}
	return descriptor;
}

int clinux_packet_ignore_outgoing(int descriptor)
{
	int on = 1;
	return setsockopt(descriptor, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0 ? -errno : 0;
}

int clinux_attach_filter(int descriptor, const struct sock_filter *program, uint16_t length)
{
	struct sock_fprog filter = {.len = length, .filter = (struct sock_filter *)program};
	return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int clinux_packet_map(int descriptor, uint32_t block_size, uint32_t block_count, uint32_t retire_ms, void **mapping)
{
	// The frame size only has to divide the block: V3 packs frames of any size.
	struct tpacket_req3 request = {
		.tp_block_size = block_size,
		.tp_block_nr = block_count,
		.tp_frame_size = 2048,
		.tp_frame_nr = block_size / 2048 * block_count,
		.tp_retire_blk_tov = retire_ms,
	};
	void *address;

	if (setsockopt(descriptor, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) < 0)
		return -errno;
	address = mmap(NULL, (size_t)block_size * block_count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
	if (address == MAP_FAILED)
		return -errno;
	*mapping = address;
	return 0;
}

void clinux_packet_unmap(void *mapping, size_t size)
{
	munmap(mapping, size);
}

int clinux_packet_bind(int descriptor)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	return bind(descriptor, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

int clinux_packet_statistics(int descriptor, struct clinux_packet_statistics *statistics)
{
	struct tpacket_stats_v3 kernel;
	socklen_t length = sizeof(kernel);

	if (getsockopt(descriptor, SOL_PACKET, PACKET_STATISTICS, &kernel, &length) < 0)
		return -errno;
	statistics->packets = kernel.tp_packets;
	statistics->drops = kernel.tp_drops;
	statistics->freezes = kernel.tp_freeze_q_cnt;
	return 0;
}

int clinux_take_error(int descriptor)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		return errno;
	return error;
}
