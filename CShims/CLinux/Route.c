#include "include/CLinuxRoute.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/filter.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

_Static_assert(CLINUX_NAME_SIZE == IFNAMSIZ, "a device name's length");
_Static_assert(CLINUX_HARDWARE_ETHER == ARPHRD_ETHER && CLINUX_FLAG_LOOPBACK == IFF_LOOPBACK && CLINUX_FLAG_UP == IFF_UP, "the kernel's numbers");

static int open_socket(int flags, uint32_t groups)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int descriptor = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE);

	if (descriptor < 0)
		return -errno;
	if (bind(descriptor, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;
		close(descriptor);
		return -error;
	}
	return descriptor;
}

int clinux_route_requests_open(void)
{
	struct timeval patience = {.tv_sec = 1};
	int descriptor = open_socket(0, 0);

	if (descriptor >= 0)
		setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return descriptor;
}

int clinux_route_events_open(uint32_t buffer_size)
{
	// A node that runs a routing daemon changes routes all day; only those with rtm_dst_len 0 matter. The type is in host order, loads swap.
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_NEWROUTE), 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htons(RTM_DELROUTE), 0, 2),
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, NLMSG_HDRLEN + offsetof(struct rtmsg, rtm_dst_len)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog filter = {.len = sizeof(program) / sizeof(program[0]), .filter = program};
	int descriptor = open_socket(SOCK_NONBLOCK, 0);
	uint32_t groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
	int group, error = 0;

	if (descriptor < 0)
		return descriptor;
	if (setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0)
		error = errno;
	// SO_RCVBUFFORCE needs CAP_NET_ADMIN in the initial user namespace; without, the limit of net.core.rmem_max holds.
	if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_size, sizeof(buffer_size)) < 0)
		setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer_size, sizeof(buffer_size));
	for (group = 1; group <= 32 && !error; group++)
		if (groups & 1u << (group - 1) &&
		    setsockopt(descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			error = errno;
	if (error) {
		close(descriptor);
		return -error;
	}
	return descriptor;
}

int clinux_route_request(int descriptor, int dump, uint32_t sequence)
{
	char buffer[256] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	ssize_t sent;

	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = sequence;
	switch (dump) {
	case CLINUX_DUMP_LINKS: {
		header->nlmsg_type = RTM_GETLINK;
		mnl_nlmsg_put_extra_header(header, sizeof(struct ifinfomsg));
		// Leave the counters out: they are most of the answer.
		mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
		break;
	}
	case CLINUX_DUMP_ADDRESSES:
		header->nlmsg_type = RTM_GETADDR;
		mnl_nlmsg_put_extra_header(header, sizeof(struct ifaddrmsg));
		break;
	default: {
		struct rtmsg *route;
		header->nlmsg_type = RTM_GETROUTE;
		route = mnl_nlmsg_put_extra_header(header, sizeof(struct rtmsg));
		route->rtm_family = dump == CLINUX_DUMP_ROUTES_V4 ? AF_INET : AF_INET6;
		break;
	}
	}
	do
		sent = send(descriptor, header, header->nlmsg_len, 0);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

int clinux_route_receive(int descriptor, void *buffer, size_t capacity)
{
	struct sockaddr_nl sender;
	struct iovec part = {.iov_base = buffer, .iov_len = capacity};
	struct msghdr message;
	ssize_t length;

	for (;;) {
		message = (struct msghdr){.msg_name = &sender, .msg_namelen = sizeof(sender), .msg_iov = &part, .msg_iovlen = 1};
		length = recvmsg(descriptor, &message, 0);
		if (length < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN ? 0 : -errno;
		}
		// Any process may send to a netlink socket; the kernel alone has port 0.
		if (message.msg_namelen != sizeof(sender) || sender.nl_pid != 0)
			continue;
		// A cut datagram is a loss.
		return message.msg_flags & MSG_TRUNC ? -ENOBUFS : (int)length;
	}
}

static void copy_text(char *to, size_t capacity, const struct nlattr *attribute)
{
	size_t length = strnlen(mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute));

	if (length > capacity - 1)
		length = capacity - 1;
	memcpy(to, mnl_attr_get_payload(attribute), length);
	to[length] = 0;
}

static void read_link(const struct nlmsghdr *header, struct clinux_route_record *record)
{
	const struct ifinfomsg *link = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute, *inner;

	// AF_BRIDGE messages tell of bridge ports: a RTM_DELLINK of that family is a port that left, not a device that went.
	if (link->ifi_family != AF_UNSPEC || link->ifi_index <= 0)
		return;
	record->interface = (uint32_t)link->ifi_index;
	record->flags = link->ifi_flags;
	record->hardware_type = link->ifi_type;
	mnl_attr_for_each(attribute, header, sizeof(*link)) {
		switch (mnl_attr_get_type(attribute)) {
		case IFLA_IFNAME:
			copy_text(record->name, sizeof(record->name), attribute);
			break;
		case IFLA_MASTER:
			if (mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t))
				record->master = mnl_attr_get_u32(attribute);
			break;
		case IFLA_LINKINFO:
			mnl_attr_for_each_nested(inner, attribute)
				if (mnl_attr_get_type(inner) == IFLA_INFO_KIND)
					copy_text(record->kind, sizeof(record->kind), inner);
			break;
		}
	}
	if (header->nlmsg_type == RTM_DELLINK)
		record->event = CLINUX_LINK_DELETED;
	else if (record->name[0])
		record->event = CLINUX_LINK_NEW;
}

static void read_address(const struct nlmsghdr *header, struct clinux_route_record *record)
{
	const struct ifaddrmsg *address = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute, *local = NULL, *found = NULL;
	size_t length = address->ifa_family == AF_INET ? 4 : 16;

	if (address->ifa_family != AF_INET && address->ifa_family != AF_INET6)
		return;
	mnl_attr_for_each(attribute, header, sizeof(*address)) {
		if (mnl_attr_get_type(attribute) == IFA_LOCAL)
			local = attribute;
		else if (mnl_attr_get_type(attribute) == IFA_ADDRESS)
			found = attribute;
	}
	// IFA_ADDRESS is the peer's on a point-to-point device; IFA_LOCAL is then there too.
	if (local)
		found = local;
	if (!found)
		return;
	if (mnl_attr_get_payload_len(found) < length) {
		record->event = CLINUX_MALFORMED;
		return;
	}
	record->interface = address->ifa_index;
	record->family = length == 4 ? 4 : 6;
	memcpy(record->address, mnl_attr_get_payload(found), length);
	record->event = header->nlmsg_type == RTM_NEWADDR ? CLINUX_ADDRESS_NEW : CLINUX_ADDRESS_DELETED;
}

static void add_output(struct clinux_route_record *record, uint32_t interface)
{
	if (interface && record->output_count < CLINUX_ROUTE_OUTPUTS)
		record->outputs[record->output_count++] = interface;
}

static void read_hops(const struct nlattr *attribute, struct clinux_route_record *record)
{
	const char *bytes = mnl_attr_get_payload(attribute);
	size_t left = mnl_attr_get_payload_len(attribute);

	while (left >= sizeof(struct rtnexthop)) {
		struct rtnexthop hop;
		size_t step;
		memcpy(&hop, bytes, sizeof(hop));
		if (hop.rtnh_len < sizeof(hop) || hop.rtnh_len > left)
			return;
		add_output(record, (uint32_t)hop.rtnh_ifindex);
		step = RTNH_ALIGN(hop.rtnh_len);
		if (step >= left)
			return;
		bytes += step;
		left -= step;
	}
}

static void read_route(const struct nlmsghdr *header, struct clinux_route_record *record)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	uint32_t table = route->rtm_table;

	if (route->rtm_dst_len != 0 || route->rtm_type != RTN_UNICAST || route->rtm_flags & RTM_F_CLONED)
		return;
	mnl_attr_for_each(attribute, header, sizeof(*route)) {
		switch (mnl_attr_get_type(attribute)) {
		case RTA_TABLE:
			if (mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t))
				table = mnl_attr_get_u32(attribute);
			break;
		case RTA_OIF:
			if (mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t))
				add_output(record, mnl_attr_get_u32(attribute));
			break;
		case RTA_MULTIPATH:
			read_hops(attribute, record);
			break;
		}
	}
	if (table == RT_TABLE_MAIN)
		record->event = header->nlmsg_type == RTM_NEWROUTE ? CLINUX_DEFAULT_ROUTE_NEW : CLINUX_DEFAULT_ROUTE_DELETED;
}

int clinux_route_next(const void *buffer, size_t length, size_t *offset, struct clinux_route_record *record)
{
	const struct nlmsghdr *header = (const struct nlmsghdr *)((const char *)buffer + *offset);
	int left = (int)(length - *offset);
	size_t payload, need = 0;

	if (*offset >= length || !mnl_nlmsg_ok(header, left))
		return 0;
	*offset += MNL_ALIGN(header->nlmsg_len);
	payload = mnl_nlmsg_get_payload_len(header);
	memset(record, 0, offsetof(struct clinux_route_record, outputs));
	record->event = CLINUX_SKIPPED;
	record->sequence = header->nlmsg_seq;
	record->interrupted = (header->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
	switch (header->nlmsg_type) {
	case NLMSG_DONE:
		record->event = CLINUX_DONE;
		// A dump that failed half-way says so in its DONE.
		if (payload >= sizeof(int32_t))
			memcpy(&record->error, mnl_nlmsg_get_payload(header), sizeof(int32_t));
		record->error = record->error < 0 ? -record->error : 0;
		return 1;
	case NLMSG_ERROR:
		record->event = CLINUX_FAILED;
		if (payload >= sizeof(int32_t))
			memcpy(&record->error, mnl_nlmsg_get_payload(header), sizeof(int32_t));
		record->error = -record->error;
		return 1;
	case RTM_NEWLINK:
	case RTM_DELLINK:
		need = sizeof(struct ifinfomsg);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		need = sizeof(struct ifaddrmsg);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		need = sizeof(struct rtmsg);
		break;
	default:
		return 1;
	}
	if (payload < need) {
		record->event = CLINUX_MALFORMED;
		return 1;
	}
	if (need == sizeof(struct ifinfomsg))
		read_link(header, record);
	else if (need == sizeof(struct ifaddrmsg))
		read_address(header, record);
	else
		read_route(header, record);
	return 1;
}
