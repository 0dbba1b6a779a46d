#pragma once
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <string.h>

#include "CConntrack.h"

/// The attributes in a stretch of bytes of known length. Stops at the first one that does not fit.
struct conntrack_attributes {
  const struct nlattr *next;
  const char *end;
};

// What libmnl's accessors of the same names do, inlined: as calls into the library they were a fifth of the agent's own work for an event.

static inline uint16_t attribute_type(const struct nlattr *attribute) { return attribute->nla_type & NLA_TYPE_MASK; }
static inline uint16_t attribute_length(const struct nlattr *attribute) { return (uint16_t)(attribute->nla_len - NLA_HDRLEN); }
static inline const void *attribute_payload(const struct nlattr *attribute) { return (const char *)attribute + NLA_HDRLEN; }

static inline uint16_t attribute_u16(const struct nlattr *attribute) {
  uint16_t value;
  memcpy(&value, attribute_payload(attribute), sizeof value);
  return ntohs(value);
}

static inline uint32_t attribute_u32(const struct nlattr *attribute) {
  uint32_t value;
  memcpy(&value, attribute_payload(attribute), sizeof value);
  return ntohl(value);
}

static inline void conntrack_attributes_begin(struct conntrack_attributes *cursor, const void *first, size_t length) {
  cursor->next = first;
  cursor->end = (const char *)first + length;
}

static inline bool conntrack_attributes_next(struct conntrack_attributes *cursor, const struct nlattr **attribute) {
  const struct nlattr *next = cursor->next;
  ptrdiff_t left = cursor->end - (const char *)next;
  if (left < (ptrdiff_t)sizeof *next || next->nla_len < sizeof *next || next->nla_len > left) return false;
  *attribute = next;
  cursor->next = (const struct nlattr *)((const char *)next + NLA_ALIGN(next->nla_len));
  return true;
}

/// After the last one: false if bytes were left that are no attribute.
static inline bool conntrack_attributes_whole(const struct conntrack_attributes *cursor) { return (const char *)cursor->next >= cursor->end; }
