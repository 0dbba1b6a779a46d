#pragma once

#include <stddef.h>
#include <stdint.h>

// libyaml's events as one flat record each. A pull interface: the caller keeps depth, counts and policy.

enum {
  CYAML_ERROR = 0,
  CYAML_END = 1,
  CYAML_DOCUMENT_START = 2,
  CYAML_SCALAR = 3,
  CYAML_SEQUENCE_START = 4,
  CYAML_SEQUENCE_END = 5,
  CYAML_MAPPING_START = 6,
  CYAML_MAPPING_END = 7,
  CYAML_ALIAS = 8,
};

struct cyaml_event {
  int32_t kind;
  uint32_t line;        // from 1
  const uint8_t *text;  // scalar's bytes, or the problem's C string; lent until the next call
  size_t length;
  uint8_t plain;     // scalar without quotes
  uint8_t anchored;  // carries an &anchor
  uint8_t tagged;    // carries an explicit !tag
};

struct cyaml_parser;

// Borrows `bytes`, which must be UTF-8 and outlive the parser. NULL when memory is short.
struct cyaml_parser *cyaml_open(const uint8_t *bytes, size_t length);

// Fills `event` with the next event; CYAML_ERROR and CYAML_END are final.
void cyaml_next(struct cyaml_parser *parser, struct cyaml_event *event);

void cyaml_close(struct cyaml_parser *parser);
