#include "parse.h"

#include <arpa/inet.h>
#include <endian.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <stddef.h>
#include <string.h>

// Why not nfct_nlmsg_parse here: libnetfilter_conntrack copies CTA_SECCTX with strdup, CTA_HELP_INFO with calloc and CTA_LABELS into a new bit
// mask, and a reused object leaves the previous ones behind (src/conntrack/parse_mnl.c at 1.0.9). Its nf_conntrack would also have to be cleared
// for every event and read by one call a field. So events go attribute by attribute straight into the record, and the library is the
// second opinion: conntrack_text.

// Bits of what a tuple must have.
enum { SOURCE_V4 = 1, DESTINATION_V4 = 2, SOURCE_V6 = 4, DESTINATION_V6 = 8, PROTOCOL = 16 };

static void nested(struct conntrack_attributes *cursor, const struct nlattr *attribute) {
  conntrack_attributes_begin(cursor, attribute_payload(attribute), attribute_length(attribute));
}

static uint64_t mapped(uint32_t address) { return 0xffff00000000u | address; }

static uint64_t load64(const void *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return be64toh(value);
}

static bool parse_addresses(const struct nlattr *holder, struct conntrack_tuple *tuple, unsigned *have) {
  struct conntrack_attributes cursor;
  const struct nlattr *attribute;
  nested(&cursor, holder);
  while (conntrack_attributes_next(&cursor, &attribute)) {
    const char *payload = attribute_payload(attribute);
    switch (attribute_type(attribute)) {
      case CTA_IP_V4_SRC:
        if (attribute_length(attribute) < 4) return false;
        tuple->source_high = 0;
        tuple->source_low = mapped(attribute_u32(attribute));
        *have |= SOURCE_V4;
        break;
      case CTA_IP_V4_DST:
        if (attribute_length(attribute) < 4) return false;
        tuple->destination_high = 0;
        tuple->destination_low = mapped(attribute_u32(attribute));
        *have |= DESTINATION_V4;
        break;
      case CTA_IP_V6_SRC:
        if (attribute_length(attribute) < 16) return false;
        tuple->source_high = load64(payload);
        tuple->source_low = load64(payload + 8);
        *have |= SOURCE_V6;
        break;
      case CTA_IP_V6_DST:
        if (attribute_length(attribute) < 16) return false;
        tuple->destination_high = load64(payload);
        tuple->destination_low = load64(payload + 8);
        *have |= DESTINATION_V6;
        break;
    }
  }
  return conntrack_attributes_whole(&cursor);
}

static bool parse_protocol(const struct nlattr *holder, struct conntrack_tuple *tuple, unsigned *have) {
  struct conntrack_attributes cursor;
  const struct nlattr *attribute;
  nested(&cursor, holder);
  while (conntrack_attributes_next(&cursor, &attribute)) {
    switch (attribute_type(attribute)) {
      case CTA_PROTO_NUM:
        if (attribute_length(attribute) < 1) return false;
        tuple->protocol = *(const uint8_t *)attribute_payload(attribute);
        *have |= PROTOCOL;
        break;
      case CTA_PROTO_SRC_PORT:
        if (attribute_length(attribute) < 2) return false;
        tuple->source_port = attribute_u16(attribute);
        break;
      case CTA_PROTO_DST_PORT:
        if (attribute_length(attribute) < 2) return false;
        tuple->destination_port = attribute_u16(attribute);
        break;
    }
  }
  return conntrack_attributes_whole(&cursor);
}

// An attribute's header as it lies in memory.
static uint32_t header(unsigned length, unsigned type) {
  const struct nlattr attribute = {.nla_len = (uint16_t)length, .nla_type = (uint16_t)type};
  uint32_t word;
  memcpy(&word, &attribute, sizeof word);
  return word;
}

static uint32_t load32(const char *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static uint16_t load16(const char *bytes) {
  uint16_t word;
  memcpy(&word, bytes, sizeof word);
  return ntohs(word);
}

enum { USUAL_TUPLE = 48, USUAL_HOLDER = NLA_HDRLEN + USUAL_TUPLE };

// The IPv4 tuple without a zone as every kernel writes it (ctnetlink_dump_tuples): the same as the walk below, for a fifth of its price.
// `at` is the payload of its attribute, USUAL_TUPLE bytes. False where a single header differs.
static inline bool parse_usual_tuple(const char *at, struct conntrack_tuple *tuple) {
  enum { IP = 0, SOURCE = 4, DESTINATION = 12, PROTO = 20, NUMBER = 24, SOURCE_PORT = 32, DESTINATION_PORT = 40 };
  uint32_t differs = load32(at + IP) ^ header(20, CTA_TUPLE_IP | NLA_F_NESTED);
  differs |= load32(at + SOURCE) ^ header(8, CTA_IP_V4_SRC);
  differs |= load32(at + DESTINATION) ^ header(8, CTA_IP_V4_DST);
  differs |= load32(at + PROTO) ^ header(28, CTA_TUPLE_PROTO | NLA_F_NESTED);
  differs |= load32(at + NUMBER) ^ header(5, CTA_PROTO_NUM);
  differs |= load32(at + SOURCE_PORT) ^ header(6, CTA_PROTO_SRC_PORT);
  differs |= load32(at + DESTINATION_PORT) ^ header(6, CTA_PROTO_DST_PORT);
  if (differs != 0) return false;
  tuple->source_high = 0;
  tuple->source_low = mapped(ntohl(load32(at + SOURCE + 4)));
  tuple->destination_high = 0;
  tuple->destination_low = mapped(ntohl(load32(at + DESTINATION + 4)));
  tuple->protocol = (uint8_t)at[NUMBER + 4];
  tuple->source_port = load16(at + SOURCE_PORT + 4);
  tuple->destination_port = load16(at + DESTINATION_PORT + 4);
  return true;
}

// Both tuples at the beginning of an entry, as every kernel writes them: where they end, or NULL where they are not of the usual kind.
static inline const char *parse_usual_tuples(const char *at, size_t length, struct conntrack_record *record) {
  if (length < 2 * USUAL_HOLDER) return NULL;
  uint32_t differs = load32(at) ^ header(USUAL_HOLDER, CTA_TUPLE_ORIG | NLA_F_NESTED);
  differs |= load32(at + USUAL_HOLDER) ^ header(USUAL_HOLDER, CTA_TUPLE_REPLY | NLA_F_NESTED);
  if (differs != 0) return NULL;
  if (!parse_usual_tuple(at + NLA_HDRLEN, &record->original)) return NULL;
  if (!parse_usual_tuple(at + USUAL_HOLDER + NLA_HDRLEN, &record->reply)) return NULL;
  return at + 2 * USUAL_HOLDER;
}

// `zone` is written only where the tuple has one of its own.
static int parse_tuple(const struct nlattr *holder, struct conntrack_tuple *tuple, uint16_t *zone) {
  struct conntrack_attributes cursor;
  const struct nlattr *attribute;
  unsigned have = 0;
  if (attribute_length(holder) == USUAL_TUPLE && parse_usual_tuple(attribute_payload(holder), tuple)) return CONNTRACK_PARSED;
  memset(tuple, 0, sizeof *tuple);
  nested(&cursor, holder);
  while (conntrack_attributes_next(&cursor, &attribute)) {
    bool good = true;
    switch (attribute_type(attribute)) {
      case CTA_TUPLE_IP:
        good = parse_addresses(attribute, tuple, &have);
        break;
      case CTA_TUPLE_PROTO:
        good = parse_protocol(attribute, tuple, &have);
        break;
      case CTA_TUPLE_ZONE:
        good = attribute_length(attribute) >= 2;
        if (good) *zone = attribute_u16(attribute);
        break;
    }
    if (!good) return CONNTRACK_BAD_ATTRIBUTE;
  }
  if (!conntrack_attributes_whole(&cursor)) return CONNTRACK_BAD_ATTRIBUTE;
  if (have != (SOURCE_V4 | DESTINATION_V4 | PROTOCOL) && have != (SOURCE_V6 | DESTINATION_V6 | PROTOCOL)) return CONNTRACK_NO_TUPLE;
  return CONNTRACK_PARSED;
}

static bool parse_timestamp(const struct nlattr *holder, struct conntrack_record *record) {
  struct conntrack_attributes cursor;
  const struct nlattr *attribute;
  nested(&cursor, holder);
  while (conntrack_attributes_next(&cursor, &attribute)) {
    int type = attribute_type(attribute);
    if (type != CTA_TIMESTAMP_START && type != CTA_TIMESTAMP_STOP) continue;
    if (attribute_length(attribute) < 8) return false;
    // Not mnl_attr_get_u64: an attribute is aligned to 4 bytes only.
    uint64_t value = load64(attribute_payload(attribute));
    if (type == CTA_TIMESTAMP_START) record->start = value;
    else record->stop = value;
  }
  return conntrack_attributes_whole(&cursor);
}

static bool parse_u32(const struct nlattr *attribute, uint32_t *value) {
  if (attribute_length(attribute) < 4) return false;
  *value = attribute_u32(attribute);
  return true;
}

static int parse_entry(const struct nlmsghdr *message, struct conntrack_record *record) {
  uint16_t tuple_zone = 0, reply_zone = 0, zone = 0;
  bool has_original = false, has_reply = false, has_zone = false;
  struct conntrack_attributes cursor;
  const struct nlattr *attribute;
  const char *first = (const char *)message + MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg);
  size_t length = message->nlmsg_len - MNL_NLMSG_HDRLEN - sizeof(struct nfgenmsg);
  const char *rest = parse_usual_tuples(first, length, record);
  if (rest != NULL) has_original = has_reply = true;
  conntrack_attributes_begin(&cursor, rest != NULL ? rest : first, rest != NULL ? length - (size_t)(rest - first) : length);
  while (conntrack_attributes_next(&cursor, &attribute)) {
    bool good = true;
    int result = CONNTRACK_PARSED;
    switch (attribute_type(attribute)) {
      case CTA_TUPLE_ORIG:
        result = parse_tuple(attribute, &record->original, &tuple_zone);
        has_original = true;
        break;
      case CTA_TUPLE_REPLY:
        result = parse_tuple(attribute, &record->reply, &reply_zone);
        has_reply = true;
        break;
      case CTA_STATUS:
        good = parse_u32(attribute, &record->status);
        break;
      case CTA_ID:
        good = parse_u32(attribute, &record->id);
        break;
      case CTA_MARK:
        good = parse_u32(attribute, &record->mark);
        break;
      case CTA_ZONE:
        good = attribute_length(attribute) >= 2;
        if (good) zone = attribute_u16(attribute);
        has_zone = good;
        break;
      case CTA_TIMESTAMP:
        good = parse_timestamp(attribute, record);
        break;
    }
    if (!good) return CONNTRACK_BAD_ATTRIBUTE;
    if (result != CONNTRACK_PARSED) return result;
  }
  if (!conntrack_attributes_whole(&cursor)) return CONNTRACK_BAD_ATTRIBUTE;
  if (!has_original || !has_reply) return CONNTRACK_NO_TUPLE;
  record->zone = has_zone ? zone : tuple_zone;
  return CONNTRACK_PARSED;
}

int conntrack_parse(const void *bytes, size_t length, struct conntrack_record *record, size_t *message_length) {
  const struct nlmsghdr *message = bytes;
  *message_length = length;
  if (length < sizeof *message || message->nlmsg_len < sizeof *message || message->nlmsg_len > length) return CONNTRACK_SHORT_MESSAGE;
  size_t aligned = MNL_ALIGN((size_t)message->nlmsg_len);
  *message_length = aligned < length ? aligned : length;
  if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_CTNETLINK) return CONNTRACK_OTHER_TYPE;
  // The tuples are written as a whole, or nothing of the record is of use.
  memset(&record->start, 0, sizeof *record - offsetof(struct conntrack_record, start));
  switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
    case IPCTNL_MSG_CT_NEW:
      record->kind = (message->nlmsg_flags & (NLM_F_CREATE | NLM_F_EXCL)) == (NLM_F_CREATE | NLM_F_EXCL) ? CONNTRACK_NEW : CONNTRACK_UPDATE;
      break;
    case IPCTNL_MSG_CT_DELETE:
      record->kind = CONNTRACK_DESTROY;
      break;
    default:
      return CONNTRACK_OTHER_TYPE;
  }
  if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct nfgenmsg)) return CONNTRACK_SHORT_MESSAGE;
  return parse_entry(message, record);
}

bool conntrack_record_has_port(const struct conntrack_record *record, const uint16_t *ports, size_t count) {
  if (record->original.protocol != IPPROTO_UDP && record->original.protocol != IPPROTO_TCP) return false;
  for (size_t index = 0; index < count; index++) {
    uint16_t port = ports[index];
    if (record->original.destination_port == port || record->original.source_port == port) return true;
    if (record->reply.destination_port == port || record->reply.source_port == port) return true;
  }
  return false;
}
