#pragma once
#include <libmnl/libmnl.h>

#include "CConntrack.h"

/// The attributes in a stretch of bytes of known length. Stops at the first one that does not fit.
struct conntrack_attributes {
  const struct nlattr *next;
  const char *end;
};

void conntrack_attributes_begin(struct conntrack_attributes *cursor, const void *first, size_t length);
bool conntrack_attributes_next(struct conntrack_attributes *cursor, const struct nlattr **attribute);
/// After the last one: false if bytes were left that are no attribute.
bool conntrack_attributes_whole(const struct conntrack_attributes *cursor);
