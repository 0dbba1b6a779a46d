#include "CYAML.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct cyaml_parser {
  yaml_parser_t parser;
  yaml_event_t event;
  int holds_event;
};

struct cyaml_parser *cyaml_open(const uint8_t *bytes, size_t length) {
  struct cyaml_parser *self = calloc(1, sizeof *self);
  if (self == NULL) return NULL;
  if (!yaml_parser_initialize(&self->parser)) {
    free(self);
    return NULL;
  }
  // Stated, or libyaml would take a byte order mark's word for UTF-16.
  yaml_parser_set_encoding(&self->parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&self->parser, bytes, length);
  return self;
}

static void fill_error(struct cyaml_parser *self, struct cyaml_event *out) {
  const char *problem = self->parser.problem != NULL ? self->parser.problem : "out of memory";
  out->kind = CYAML_ERROR;
  out->line = (uint32_t)self->parser.problem_mark.line + 1;
  // A reader error has no mark of its own; the scanner's position is the nearest line before it.
  if (self->parser.error == YAML_READER_ERROR) out->line = (uint32_t)self->parser.mark.line + 1;
  out->text = (const uint8_t *)problem;
  out->length = strlen(problem);
}

void cyaml_next(struct cyaml_parser *self, struct cyaml_event *out) {
  memset(out, 0, sizeof *out);
  for (;;) {
    if (self->holds_event) yaml_event_delete(&self->event);
    self->holds_event = 0;
    if (!yaml_parser_parse(&self->parser, &self->event)) {
      fill_error(self, out);
      return;
    }
    self->holds_event = 1;
    const yaml_event_t *event = &self->event;
    out->line = (uint32_t)event->start_mark.line + 1;
    switch (event->type) {
      case YAML_STREAM_START_EVENT:
      case YAML_DOCUMENT_END_EVENT:
        continue;
      case YAML_DOCUMENT_START_EVENT:
        out->kind = CYAML_DOCUMENT_START;
        return;
      case YAML_SCALAR_EVENT:
        out->kind = CYAML_SCALAR;
        out->text = event->data.scalar.value;
        out->length = event->data.scalar.length;
        out->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        out->anchored = event->data.scalar.anchor != NULL;
        out->tagged = event->data.scalar.tag != NULL;
        return;
      case YAML_SEQUENCE_START_EVENT:
        out->kind = CYAML_SEQUENCE_START;
        out->anchored = event->data.sequence_start.anchor != NULL;
        out->tagged = event->data.sequence_start.tag != NULL;
        return;
      case YAML_SEQUENCE_END_EVENT:
        out->kind = CYAML_SEQUENCE_END;
        return;
      case YAML_MAPPING_START_EVENT:
        out->kind = CYAML_MAPPING_START;
        out->anchored = event->data.mapping_start.anchor != NULL;
        out->tagged = event->data.mapping_start.tag != NULL;
        return;
      case YAML_MAPPING_END_EVENT:
        out->kind = CYAML_MAPPING_END;
        return;
      case YAML_ALIAS_EVENT:
        out->kind = CYAML_ALIAS;
        return;
      default:
        out->kind = CYAML_END;
        return;
    }
  }
}

void cyaml_close(struct cyaml_parser *self) {
  if (self->holds_event) yaml_event_delete(&self->event);
  yaml_parser_delete(&self->parser);
  free(self);
}
