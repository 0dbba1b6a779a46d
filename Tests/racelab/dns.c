/* The least of DNS that a client and a server need (RFC 1035 4.1): one question, one answer record. */
#include "lab.h"

#include <stdio.h>
#include <string.h>

static void put16(uint8_t *at, uint16_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
}

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

size_t dns_query(uint8_t *out, uint16_t id, const char *name, uint16_t type) {
  memset(out, 0, 12);
  put16(out, id);
  out[2] = 1; /* RD */
  out[5] = 1; /* QDCOUNT */
  size_t at = 12;
  while (*name) {
    size_t label = strcspn(name, ".");
    out[at++] = (uint8_t)label;
    memcpy(out + at, name, label);
    at += label;
    name += label;
    if (*name == '.') name++;
  }
  out[at++] = 0;
  put16(out + at, type);
  put16(out + at + 2, 1);
  return at + 4;
}

bool dns_parse(const uint8_t *bytes, size_t length, uint16_t *id, bool *response, char *name, uint16_t *type, size_t *question_end) {
  if (length < 12 || get16(bytes + 4) != 1) return false;
  *id = get16(bytes);
  *response = bytes[2] & 0x80;
  size_t at = 12, written = 0;
  while (at < length && bytes[at]) {
    size_t label = bytes[at++];
    if (label > 63 || at + label > length || written + label + 2 > LAB_NAME_MAX) return false;
    if (written) name[written++] = '.';
    memcpy(name + written, bytes + at, label);
    written += label;
    at += label;
  }
  name[written] = 0;
  if (at + 5 > length) return false;
  *type = get16(bytes + at + 1);
  *question_end = at + 5;
  return true;
}

size_t dns_answer(uint8_t *bytes, size_t question_end, uint16_t type) {
  size_t data = type == LAB_TYPE_AAAA ? 16 : 4;
  bytes[2] = 0x80 | (bytes[2] & 1);
  bytes[3] = 0x80;
  memset(bytes + 6, 0, 6);
  bytes[7] = 1; /* ANCOUNT */
  uint8_t *record = bytes + question_end;
  put16(record, 0xc00c); /* the question's name, RFC 1035 4.1.4 */
  put16(record + 2, type == LAB_TYPE_AAAA ? LAB_TYPE_AAAA : LAB_TYPE_A);
  put16(record + 4, 1);
  memset(record + 6, 0, 4);
  record[9] = 5; /* TTL */
  put16(record + 10, (uint16_t)data);
  memset(record + 12, 0, data);
  record[12] = data == 16 ? 0xfd : 192;
  record[12 + data - 1] = 7;
  return question_end + 12 + data;
}

size_t dns_add_edns(uint8_t *bytes, size_t length) {
  static const uint8_t option[] = {0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0};
  memcpy(bytes + length, option, sizeof option);
  bytes[11]++; /* ARCOUNT */
  return length + sizeof option;
}

size_t dns_pad(uint8_t *bytes, size_t length, size_t total) {
  while (length + 12 + 201 <= total) {
    uint8_t *record = bytes + length;
    memset(record, 'x', 12 + 201);
    put16(record, 0xc00c);
    put16(record + 2, 16); /* TXT */
    put16(record + 4, 1);
    memset(record + 6, 0, 4);
    put16(record + 10, 201);
    record[12] = 200;
    put16(bytes + 6, (uint16_t)(get16(bytes + 6) + 1)); /* ANCOUNT */
    length += 12 + 201;
  }
  return length;
}

void dns_flip_case(uint8_t *bytes, size_t question_end) {
  for (size_t at = 12; at + 5 < question_end; at++)
    if ((bytes[at] | 0x20) >= 'a' && (bytes[at] | 0x20) <= 'z') bytes[at] ^= 0x20;
}

const char *dns_type_name(uint16_t type) { return type == LAB_TYPE_AAAA ? "AAAA" : type == LAB_TYPE_A ? "A" : "OTHER"; }

uint16_t dns_type_parse(const char *text) { return strcmp(text, "AAAA") ? LAB_TYPE_A : LAB_TYPE_AAAA; }
