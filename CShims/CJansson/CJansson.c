#include "CJansson.h"

#include <jansson.h>

cjansson_value *cjansson_parse(const uint8_t *bytes, size_t length) {
  json_error_t error;
  return json_loadb((const char *)bytes, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
}

void cjansson_free(cjansson_value *value) { json_decref(value); }

int cjansson_kind(const cjansson_value *value) {
  switch (json_typeof(value)) {
  case JSON_TRUE:
  case JSON_FALSE:
    return CJANSSON_BOOLEAN;
  case JSON_INTEGER:
    return CJANSSON_INTEGER;
  case JSON_REAL:
    return CJANSSON_REAL;
  case JSON_STRING:
    return CJANSSON_STRING;
  case JSON_ARRAY:
    return CJANSSON_ARRAY;
  case JSON_OBJECT:
    return CJANSSON_OBJECT;
  default:
    return CJANSSON_NULL;
  }
}

bool cjansson_boolean(const cjansson_value *value) { return json_is_true(value); }
int64_t cjansson_integer(const cjansson_value *value) { return json_integer_value(value); }
double cjansson_real(const cjansson_value *value) { return json_number_value(value); }

const uint8_t *cjansson_string(const cjansson_value *value, size_t *length) {
  *length = json_string_length(value);
  return (const uint8_t *)json_string_value(value);
}

size_t cjansson_count(const cjansson_value *array) { return json_array_size(array); }
const cjansson_value *cjansson_element(const cjansson_value *array, size_t index) { return json_array_get(array, index); }

void *cjansson_first(const cjansson_value *object) { return json_object_iter((json_t *)object); }
void *cjansson_next(const cjansson_value *object, void *member) { return json_object_iter_next((json_t *)object, member); }

const uint8_t *cjansson_key(void *member, size_t *length) {
  *length = json_object_iter_key_len(member);
  return (const uint8_t *)json_object_iter_key(member);
}

const cjansson_value *cjansson_value_at(void *member) { return json_object_iter_value(member); }
