#include <libmnl/libmnl.h>
#include <libnetfilter_conntrack/libnetfilter_conntrack.h>

#include "CConntrack.h"

size_t conntrack_text(const void *message, char *text, size_t capacity) {
  struct nf_conntrack *entry = nfct_new();
  if (entry == NULL) return 0;
  int length = 0;
  if (nfct_nlmsg_parse(message, entry) >= 0) length = nfct_snprintf(text, (unsigned)capacity, entry, NFCT_T_UNKNOWN, NFCT_O_DEFAULT, 0);
  nfct_destroy(entry);
  if (length <= 0) return 0;
  return (size_t)length < capacity ? (size_t)length : capacity - 1;
}
