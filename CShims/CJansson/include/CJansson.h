#pragma once
// JSON texts of others, read with libjansson: bounded in size and depth by the caller and by the library.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct json_t cjansson_value;

/// What a value is. Real numbers are `CJANSSON_REAL`.
enum { CJANSSON_NULL, CJANSSON_BOOLEAN, CJANSSON_INTEGER, CJANSSON_REAL, CJANSSON_STRING, CJANSSON_ARRAY, CJANSSON_OBJECT };

/// One value; duplicate keys and anything behind the value are refused. NULL: no JSON. The caller frees it.
cjansson_value *cjansson_parse(const uint8_t *bytes, size_t length);
void cjansson_free(cjansson_value *value);

int cjansson_kind(const cjansson_value *value);
bool cjansson_boolean(const cjansson_value *value);
int64_t cjansson_integer(const cjansson_value *value);
double cjansson_real(const cjansson_value *value);
/// UTF-8, lent as long as the value lives.
const uint8_t *cjansson_string(const cjansson_value *value, size_t *length);
size_t cjansson_count(const cjansson_value *array);
const cjansson_value *cjansson_element(const cjansson_value *array, size_t index);
/// The members of an object one after the other: NULL at the end.
void *cjansson_first(const cjansson_value *object);
void *cjansson_next(const cjansson_value *object, void *member);
const uint8_t *cjansson_key(void *member, size_t *length);
const cjansson_value *cjansson_value_at(void *member);
