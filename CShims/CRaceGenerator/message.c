// The DNS messages (RFC 1035 4.1): one question, no EDNS. A name's first label holds scenario and pair, its type tells the two queries of a pair apart.
#include <stdio.h>
#include <string.h>

#include "generator.h"

const char racegen_zone[] = "racetrack.test";

static const char *const prefix[RACEGEN_SCENARIOS] = {"ordinary-", "late-", "reply-", "snat-"};
static const uint8_t zone_wire[] = "\x09racetrack\x04test";

enum { HEADER = 12, TYPE_A = 1, TYPE_AAAA = 28 };

int racegen_label(enum racegen_scenario scenario, uint32_t pair, char *out, unsigned capacity) {
  return snprintf(out, capacity, "%s%u", prefix[scenario], pair);
}

uint16_t query_id(enum racegen_scenario scenario, uint32_t index) {
  // An odd factor permutes the 16-bit numbers: no two queries of a scenario share an ID.
  return (uint16_t)((index + 1) * 40503u + (uint32_t)scenario * 9973u);
}

int write_query(uint8_t *out, enum racegen_scenario scenario, uint32_t index, uint16_t id) {
  memset(out, 0, HEADER);
  out[0] = (uint8_t)(id >> 8);
  out[1] = (uint8_t)id;
  out[2] = 0x01;  // RD
  out[5] = 1;     // QDCOUNT
  char label[64];
  int length = racegen_label(scenario, index / 2, label, sizeof label);
  int at = HEADER;
  out[at++] = (uint8_t)length;
  memcpy(out + at, label, (size_t)length);
  at += length;
  memcpy(out + at, zone_wire, sizeof zone_wire);  // the terminating NUL is the root label
  at += (int)sizeof zone_wire;
  out[at++] = 0;
  out[at++] = index & 1 ? TYPE_AAAA : TYPE_A;
  out[at++] = 0;
  out[at++] = 1;  // IN
  return at;
}

int read_query(const uint8_t *data, int length, enum racegen_scenario *scenario, uint32_t *index) {
  if (length < HEADER + 1 || data[2] & 0x80) return -1;
  int label = data[HEADER];
  int end = HEADER + 1 + label;
  if (label > 63 || length != end + (int)sizeof zone_wire + 4 || memcmp(data + end, zone_wire, sizeof zone_wire) != 0) return -1;
  const uint8_t *text = data + HEADER + 1;
  for (int s = 0; s < RACEGEN_SCENARIOS; s++) {
    int skip = (int)strlen(prefix[s]);
    if (label <= skip || label > skip + 7 || memcmp(text, prefix[s], (size_t)skip) != 0) continue;
    uint32_t pair = 0;
    for (int i = skip; i < label; i++) {
      if (text[i] < '0' || text[i] > '9') return -1;
      pair = pair * 10 + (uint32_t)(text[i] - '0');
    }
    *scenario = (enum racegen_scenario)s;
    *index = pair * 2 + (data[end + (int)sizeof zone_wire + 1] == TYPE_AAAA);
    return 0;
  }
  return -1;
}

int write_answer(uint8_t *out, const uint8_t *query, int length) {
  memcpy(out, query, (size_t)length);
  out[2] = 0x85;  // QR, AA, RD
  out[3] = 0x80;  // RA
  out[7] = 1;     // ANCOUNT
  int type = query[length - 3];
  int size = type == TYPE_AAAA ? 16 : 4;
  const uint8_t record[] = {0xC0, HEADER, 0, (uint8_t)type, 0, 1, 0, 0, 0, 5, 0, (uint8_t)size};
  memcpy(out + length, record, sizeof record);
  length += (int)sizeof record;
  memset(out + length, 0, (size_t)size);
  if (size == 4) {
    memcpy(out + length, "\xC0\x00\x02\x01", 4);  // 192.0.2.1 (RFC 5737)
  } else {
    memcpy(out + length, "\x20\x01\x0D\xB8", 4);  // 2001:db8:: (RFC 3849)
  }
  return length + size;
}
