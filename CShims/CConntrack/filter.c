#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "CConntrack.h"

// The program lets through, for entries with one of the ports on either side of either tuple, over UDP or TCP:
//   NEW; UPDATE with IPS_NAT_CLASH; DESTROY with IPS_NAT_CLASH or without IPS_SEEN_REPLY.
// Two of the three events of a healthy query never wake user space. Message type and status come first: they are cheaper than the tuples.

// IPS_NAT_CLASH of the kernel's own header; in UAPI it is still called IPS_UNTRACKED.
static const uint32_t nat_clash = 1u << 12;

enum { HEADERS = sizeof(struct nlmsghdr) + sizeof(struct nfgenmsg), PAYLOAD = sizeof(struct nlattr) };

// A jump names a label; NEXT is the instruction below.
enum label { NEXT, ENTRY, DESTROYED, PORTS, UDP_OR_TCP, AFTER_ORIGINAL_SOURCE, REPLY, AFTER_REPLY_SOURCE, REJECT, ACCEPT, LABELS };

struct program {
  struct sock_filter *code;
  uint16_t length;
  uint8_t if_true[CONNTRACK_FILTER_MAX];
  uint8_t if_false[CONNTRACK_FILTER_MAX];
  uint16_t position[LABELS];
};

static void emit(struct program *p, uint16_t code, uint32_t k) {
  p->if_true[p->length] = NEXT;
  p->if_false[p->length] = NEXT;
  p->code[p->length++] = (struct sock_filter)BPF_STMT(code, k);
}

static void jump(struct program *p, uint16_t test, uint32_t k, enum label if_true, enum label if_false) {
  emit(p, BPF_JMP | test | BPF_K, k);
  p->if_true[p->length - 1] = if_true;
  p->if_false[p->length - 1] = if_false;
}

static void place(struct program *p, enum label label) { p->position[label] = p->length; }

// A = offset of the attribute of this type among those that start at the offset A; 0 if there is none.
static void find(struct program *p, uint32_t type) {
  emit(p, BPF_LDX | BPF_IMM, type);
  emit(p, BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR));
}

// The same inside the attribute at the offset A.
static void find_nested(struct program *p, uint32_t type) {
  emit(p, BPF_LDX | BPF_IMM, type);
  emit(p, BPF_LD | BPF_B | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_NLATTR_NEST));
}

// A = the payload of the attribute at the offset A. Network order, which is what such a load turns into a number.
static void load_payload(struct program *p, uint16_t size) {
  emit(p, BPF_MISC | BPF_TAX, 0);
  emit(p, BPF_LD | size | BPF_IND, PAYLOAD);
}

static void load_status(struct program *p, enum label if_absent) {
  emit(p, BPF_LD | BPF_IMM, HEADERS);
  find(p, CTA_STATUS);
  jump(p, BPF_JEQ, 0, if_absent, NEXT);
  load_payload(p, BPF_W);
}

static void test_event(struct program *p) {
  // The netlink header is in host order and a load takes network order: htons makes the constants right for either.
  emit(p, BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_type));
  jump(p, BPF_JEQ, htons(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW), ENTRY, NEXT);
  jump(p, BPF_JEQ, htons(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE), DESTROYED, REJECT);

  place(p, ENTRY);
  emit(p, BPF_LD | BPF_H | BPF_ABS, offsetof(struct nlmsghdr, nlmsg_flags));
  emit(p, BPF_ALU | BPF_AND | BPF_K, htons(NLM_F_CREATE | NLM_F_EXCL));
  jump(p, BPF_JEQ, htons(NLM_F_CREATE | NLM_F_EXCL), PORTS, NEXT);
  load_status(p, REJECT);
  jump(p, BPF_JSET, nat_clash, PORTS, REJECT);

  place(p, DESTROYED);
  load_status(p, PORTS);
  emit(p, BPF_ALU | BPF_AND | BPF_K, nat_clash | IPS_SEEN_REPLY);
  jump(p, BPF_JEQ, IPS_SEEN_REPLY, REJECT, NEXT);
  place(p, PORTS);
}

// Accepts if the port attribute of the CTA_TUPLE_PROTO at the offset M[0] is one of the ports.
static void test_port(struct program *p, uint32_t type, const uint16_t *ports, size_t count, enum label if_absent) {
  emit(p, BPF_LD | BPF_MEM, 0);
  find_nested(p, type);
  jump(p, BPF_JEQ, 0, if_absent, NEXT);
  load_payload(p, BPF_H);
  for (size_t index = 0; index < count; index++) jump(p, BPF_JEQ, ports[index], ACCEPT, NEXT);
}

// M[0] = offset of the tuple's CTA_TUPLE_PROTO.
static void find_protocol(struct program *p, uint32_t tuple, enum label if_absent) {
  emit(p, BPF_LD | BPF_IMM, HEADERS);
  find(p, tuple);
  jump(p, BPF_JEQ, 0, if_absent, NEXT);
  find_nested(p, CTA_TUPLE_PROTO);
  jump(p, BPF_JEQ, 0, if_absent, NEXT);
  emit(p, BPF_ST, 0);
}

static void resolve_jumps(struct program *p) {
  for (uint16_t index = 0; index < p->length; index++) {
    if (p->if_true[index] != NEXT) p->code[index].jt = (uint8_t)(p->position[p->if_true[index]] - index - 1);
    if (p->if_false[index] != NEXT) p->code[index].jf = (uint8_t)(p->position[p->if_false[index]] - index - 1);
  }
}

size_t conntrack_filter(const uint16_t *ports, size_t count, struct sock_filter *code) {
  if (count > CONNTRACK_PORTS_MAX) return 0;
  struct program program = {.code = code}, *p = &program;
  test_event(p);

  find_protocol(p, CTA_TUPLE_ORIG, REPLY);
  find_nested(p, CTA_PROTO_NUM);
  jump(p, BPF_JEQ, 0, REPLY, NEXT);
  load_payload(p, BPF_B);
  jump(p, BPF_JEQ, IPPROTO_UDP, UDP_OR_TCP, NEXT);
  jump(p, BPF_JEQ, IPPROTO_TCP, UDP_OR_TCP, REJECT);
  place(p, UDP_OR_TCP);
  test_port(p, CTA_PROTO_SRC_PORT, ports, count, AFTER_ORIGINAL_SOURCE);
  place(p, AFTER_ORIGINAL_SOURCE);
  test_port(p, CTA_PROTO_DST_PORT, ports, count, REPLY);

  place(p, REPLY);
  find_protocol(p, CTA_TUPLE_REPLY, REJECT);
  test_port(p, CTA_PROTO_SRC_PORT, ports, count, AFTER_REPLY_SOURCE);
  place(p, AFTER_REPLY_SOURCE);
  test_port(p, CTA_PROTO_DST_PORT, ports, count, REJECT);

  place(p, REJECT);
  emit(p, BPF_RET | BPF_K, 0);
  place(p, ACCEPT);
  emit(p, BPF_RET | BPF_K, UINT32_MAX);
  resolve_jumps(p);
  return p->length;
}

int conntrack_attach_filter(int descriptor, const uint16_t *ports, size_t count) {
  struct sock_filter code[CONNTRACK_FILTER_MAX];
  size_t length = conntrack_filter(ports, count, code);
  if (length == 0) return -E2BIG;
  struct sock_fprog filter = {.len = (unsigned short)length, .filter = code};
  return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ? -errno : 0;
}

bool conntrack_is_wanted(const struct conntrack_record *record, const uint16_t *ports, size_t count) {
  bool has_clashed = record->status & nat_clash;
  if (record->kind == CONNTRACK_UPDATE && !has_clashed) return false;
  if (record->kind == CONNTRACK_DESTROY && !has_clashed && record->status & IPS_SEEN_REPLY) return false;
  return conntrack_record_has_port(record, ports, count);
}
