#pragma once

#include <stddef.h>
#include <stdint.h>

/// Octets of a SHA-256 digest (FIPS 180-4).
#define CNETTLE_SHA256_SIZE 32

/// Writes HMAC-SHA256 (RFC 2104) of `data` under `key` to `digest`. Any length of either is fine, 0 with a null pointer too.
void cnettle_hmac_sha256(const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t digest[CNETTLE_SHA256_SIZE]);
